"""The baseline coder: codes as bytes, least significant plane first, one zstd frame per chunk."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import zstandard

from ..errors import FormatError
from ..frames import decompress
from ..stream import Part, TensorLayout
from .base import EntropyCoder, check_magnitudes, valid_codes

__all__ = ["ZstdCoder"]

LEVEL = 19
QUICK_LEVEL = 3


class ZstdCoder(EntropyCoder):
    """Zigzag codes (0, −1, 1, −2, … → 0, 1, 2, 3, …) in as many byte planes as the part needs, frequency by
    frequency over all cells, so that equal frequencies lie together. A payload is, per part, one byte with the
    number of planes, then the planes; all of it in one zstd frame that states its size."""

    def __init__(self, level: int = LEVEL) -> None:
        self.level = level

    def encode(
        self, codes: Sequence[np.ndarray], layouts: Sequence[TensorLayout], chunks: Sequence[Sequence[Part]]
    ) -> list[bytes]:
        compressor = zstandard.ZstdCompressor(level=self.level, write_checksum=False, write_content_size=True)
        payloads = []
        for parts in chunks:
            raw = b"".join(_to_bytes(_gather(codes[p.tensor], layouts[p.tensor], p)) for p in parts)
            payloads.append(compressor.compress(raw))
        return payloads

    def decode(
        self, payloads: Sequence[bytes | None], layouts: Sequence[TensorLayout], chunks: Sequence[Sequence[Part]]
    ) -> tuple[np.ndarray, ...]:
        codes = tuple(np.zeros(layout.shape, np.int32) for layout in layouts)
        for payload, parts in zip(payloads, chunks, strict=True):
            if payload is None:
                continue
            selections = [_selection(layouts[p.tensor], p) for p in parts]
            counts = [int(s.sum()) for s in selections]
            raw = decompress(payload, limit=sum(1 + 4 * n for n in counts))
            at = 0
            for part, selection, n in zip(parts, selections, counts, strict=True):
                values, at = _from_bytes(raw, at, n)
                check_magnitudes(values)
                view = _tile(codes[part.tensor], part)
                view[selection] = values
            if at != len(raw):
                raise FormatError(f"zstd payload: {len(raw) - at} bytes left over")
        return codes


def _tile(codes: np.ndarray, part: Part) -> np.ndarray:
    """View of a part's tile with channels last: [*frequencies, *tile cells, C]."""
    return np.moveaxis(codes[part.index], 0, -1)


def _selection(layout: TensorLayout, part: Part) -> np.ndarray:
    """bool [*frequencies, *tile cells, C]: the codes of this part, in the order they are stored."""
    shape = (*layout.frequencies, *(b - a for a, b in part.tile), layout.channels)
    chosen = np.ones(shape, bool)
    if layout.context == "cosine":
        diagonal = sum(np.ix_(*(np.arange(f) for f in layout.frequencies)))
        inside = (np.asarray(diagonal) >= part.low) & (np.asarray(diagonal) < part.high)
        chosen &= inside.reshape(*inside.shape, *(1,) * (chosen.ndim - inside.ndim))
    valid = valid_codes(layout, part)
    if valid is not None:
        chosen &= valid[..., None]
    return chosen


def _gather(codes: np.ndarray, layout: TensorLayout, part: Part) -> np.ndarray:
    return _tile(codes, part)[_selection(layout, part)]


def _to_bytes(values: np.ndarray) -> bytes:
    zigzag = np.where(values < 0, -2 * values.astype(np.int64) - 1, 2 * values.astype(np.int64)).astype("<u4")
    planes = max(1, -(-int(zigzag.max(initial=0)).bit_length() // 8))
    return struct.pack("<B", planes) + zigzag.view(np.uint8).reshape(-1, 4)[:, :planes].T.tobytes()


def _from_bytes(raw: bytes, at: int, n: int) -> tuple[np.ndarray, int]:
    """n values that start at byte `at` -> (int32 [n], end)."""
    planes = raw[at] if at < len(raw) else 0
    end = at + 1 + planes * n
    if not 1 <= planes <= 4 or end > len(raw):
        raise FormatError(f"zstd payload at byte {at}: {planes} planes of {n} codes, {len(raw) - at} bytes left")
    grid = np.zeros((n, 4), np.uint8)
    grid[:, :planes] = np.frombuffer(raw, np.uint8, planes * n, at + 1).reshape(planes, n).T
    zigzag = grid.view("<u4").reshape(-1).astype(np.int64)
    return np.where(zigzag & 1, -(zigzag + 1) // 2, zigzag // 2).astype(np.int32), end
