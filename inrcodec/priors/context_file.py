"""Turns a context network into the bytes of a .npz and back: the released one's, and what is trained to be one.

FORMAT.md §7.10 has its arrays; `facts`, which decoding does not need, says how it was trained.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..entropy import TABLE_SETS
from ..entropy.context import Networks, OwnContexts
from ..entropy.exact import N_COLOURS, POSITIONS
from ..entropy.learned import ContextNetwork
from ..errors import FormatError
from .context import ORDER, SHA256, arrays, digest, from_arrays
from .prior import Prior
from .signs import sign_network
from .tables import learned_counts

__all__ = [
    "FACTS",
    "MAGIC",
    "MAX_FILE_BYTES",
    "AnyPrior",
    "ContextFile",
    "context_facts",
    "pack_contexts",
    "unpack_contexts",
]

MAGIC = b"PK\x03\x04"
MAX_FILE_BYTES = 2**22
MAX_VALUES_BYTES = 2**24  # unpacked
# int64 [len(FACTS)]: pictures learned from, codes of them, pictures held out, micro-bits a code of those
FACTS = ("pictures", "codes", "held out", "micro-bits a code", "steps", "seed")


@dataclass(frozen=True, eq=False)
class ContextFile:
    """A prior of pictures' codes. rows int64 [2 · N_LEARNED_CLASSES, N_SYMBOLS]: starting tables. sha256: what a table
    set is pinned by. facts: of FACTS; none in released files."""

    network: ContextNetwork
    rows: np.ndarray
    sha256: str
    facts: dict[str, int]
    arch, body = "multihead", "cosine"  # whose codes they predict

    @property
    def id(self) -> int:
        """First 8 bytes of the SHA-256, as a big-endian number (FORMAT.md §7.10); 0 for the released contexts, which
        are not named in files."""
        return 0 if self.sha256 == SHA256 else int(self.sha256[:16], 16)

    @cached_property
    def contexts(self) -> OwnContexts:
        """With the released network of signs."""
        return OwnContexts(Networks(self.network, sign_network()), learned_counts(self.rows))


AnyPrior = Prior | ContextFile  # what --prior may name


def pack_contexts(network: ContextNetwork, rows: np.ndarray, facts: dict[str, int]) -> bytes:
    """rows: uint16."""
    file = io.BytesIO()
    saved = arrays(network, rows)
    saved["facts"] = np.array([facts[name] for name in FACTS], np.int64)
    np.savez_compressed(file, **saved)  # type: ignore[arg-type]
    return file.getvalue()


def unpack_contexts(data: bytes) -> ContextFile:
    """Raises FormatError for anything that is no whole file of this version's contexts."""
    if len(data) > MAX_FILE_BYTES:
        raise FormatError(f"context network of more than {MAX_FILE_BYTES:,} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > MAX_VALUES_BYTES:
            raise FormatError(f"context network of {size:,} bytes unpacked, limit {MAX_VALUES_BYTES:,}")
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            saved = {name: file[name] for name in ORDER}
            facts = file["facts"] if "facts" in file else np.zeros(0, np.int64)
    except FormatError:
        raise
    except Exception:  # zip, its compressions and numpy's headers of arrays have a dozen kinds between them
        raise FormatError("not a context network, or a damaged one") from None
    try:
        network, rows = from_arrays(saved)
    except ValueError as error:
        raise FormatError(f"context network: {error}") from None
    if facts.dtype != np.int64 or facts.shape not in ((0,), (len(FACTS),)):
        raise FormatError(f"context network: facts of {facts.dtype} {facts.shape}, wanted int64 ({len(FACTS)},)")
    return ContextFile(network, rows, digest(saved), dict(zip(FACTS, facts.tolist(), strict=False)))


def context_facts(c: ContextFile) -> dict[str, Any]:
    """For people and programs, with stable keys. parameters: all numbers, of which symbols are counts of the rows."""
    net, released = c.network, not c.id
    return {
        "id": f"{c.id:016x}" if c.id else None, "sha256": c.sha256, "released": released, "kind": "image",
        "purpose": "range coder: context network of pictures" + f", table set {TABLE_SETS['range']}" * released,
        "parameters": sum(a.size for a in (*net.weights, net.place, *net.bias)) + c.rows.size, "symbols": c.rows.size,
        "features": net.weights[0].shape[1], "hidden": [len(w) for w in net.weights[:2]], "classes": len(c.rows),
        "positions": POSITIONS, "colours": N_COLOURS, "training": c.facts,
    }  # fmt: skip
