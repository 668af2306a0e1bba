"""Reads the arrays of the package's released files, and knows them by the digest of their numbers."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from importlib import resources

import numpy as np

__all__ = ["Arrays", "released", "sha256"]

Arrays = dict[str, np.ndarray]


def released(file: str, digest: Callable[[Arrays], str], wanted: str) -> Arrays:
    """The arrays of a file of the package. Raises RuntimeError where they are not the released ones: they would decode
    other numbers than were encoded."""
    data = resources.files(__package__).joinpath(file).read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    if digest(arrays) != wanted:
        raise RuntimeError(f"{file} in this installation is damaged; reinstall inrcodec")
    return arrays


def sha256(arrays: Arrays, order: Sequence[str], kind: str) -> str:
    """Of some of the arrays one after the other, each as `kind` ('<i4', …), row-major."""
    h = hashlib.sha256()
    for name in order:
        h.update(np.ascontiguousarray(arrays[name], kind).tobytes())
    return h.hexdigest()
