"""The contract of entropy coders: integer codes to bytes and back, chunk by chunk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from ..errors import FormatError
from ..stream import MAX_CODE, Part, TensorLayout

__all__ = ["EntropyCoder", "check_magnitudes", "valid_codes"]


class EntropyCoder(ABC):
    """Chunks are lists of Parts (stream.plan). Chunks of one tile share adaptive state, so decoding a chunk
    needs the earlier chunks that hold parts of the same tile, and that of splits; other tiles may be missing."""

    @abstractmethod
    def encode(
        self, codes: Sequence[np.ndarray], layouts: Sequence[TensorLayout], chunks: Sequence[Sequence[Part]]
    ) -> list[bytes]:
        """Codes int32, one array [C, *frequencies, *cells] per layout -> one payload per chunk."""

    @abstractmethod
    def decode(
        self, payloads: Sequence[bytes | None], layouts: Sequence[TensorLayout], chunks: Sequence[Sequence[Part]]
    ) -> tuple[np.ndarray, ...]:
        """Inverse of encode; codes of chunks whose payload is None stay 0. Raises FormatError for payloads no
        encoder writes, as far as that shows."""


def valid_codes(layout: TensorLayout, part: Part) -> np.ndarray | None:
    """Which codes of a part's tile exist: bool [*frequencies, *tile cells], None for all of them."""
    if not layout.sizes or all(min(axis) == f for axis, f in zip(layout.sizes, layout.frequencies, strict=True)):
        return None
    n = len(layout.cells)
    mask = np.ones((1,) * (2 * n), bool)
    for d, (axis, (start, stop)) in enumerate(zip(layout.sizes, part.tile, strict=True)):
        exists = np.arange(layout.frequencies[d])[:, None] < np.asarray(axis[start:stop])[None]
        shape = [1] * (2 * n)
        shape[d], shape[n + d] = exists.shape
        mask = mask & exists.reshape(shape)
    return mask


def check_magnitudes(codes: np.ndarray) -> None:
    """Raise FormatError for a code beyond MAX_CODE: no encoder writes one."""
    if codes.size and (int(codes.max()) > MAX_CODE or int(codes.min()) < -MAX_CODE):
        raise FormatError(f"payload holds a code beyond ±{MAX_CODE}")
