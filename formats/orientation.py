"""Takes the orientation out of EXIF, XMP and TIFF bytes, so that it can be applied to the pixels once and for all.

Every function returns its input with the orientation set to 1 and nothing else changed: offsets, and with them
maker notes, stay valid.
"""

from __future__ import annotations

import re
import struct

import numpy as np

__all__ = ["EXIF_HEAD", "apply", "take_exif", "take_tiff", "take_xmp", "tiff_entries", "tiff_integer"]

EXIF_HEAD = b"Exif\0\0"  # stands before EXIF in JPEG; kept bytes go without
ORIENTATION, XMP = 274, 700  # TIFF tags
_IN_XMP = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>))([1-8])""")
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}


def apply(values: np.ndarray, orientation: int) -> np.ndarray:
    """values: stored pixels [H, W, C] -> as they are to be seen. orientation: 1 … 8 as in EXIF."""
    if orientation >= 5:  # stored columns are seen as rows
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def take_exif(exif: bytes) -> tuple[int, bytes]:
    """exif: EXIF bytes, with or without "Exif\\0\\0". -> orientation (0: none stated), bytes without that head."""
    return take_tiff(exif.removeprefix(EXIF_HEAD))


def take_xmp(xmp: bytes) -> tuple[int, bytes]:
    found = _IN_XMP.search(xmp)
    return (int(found[2]), _IN_XMP.sub(rb"\g<1>1", xmp)) if found else (0, xmp)


def take_tiff(data: bytes) -> tuple[int, bytes]:
    """data: a TIFF file or EXIF bytes. -> orientation of the first picture (0: none stated), data without it."""
    entries = tiff_entries(data)
    order = "<" if data[:1] == b"I" else ">"
    patched = bytearray(data)
    found = 0
    if XMP in entries:
        _, n_bytes, at = entries[XMP]
        found, patched[at : at + n_bytes] = take_xmp(data[at : at + n_bytes])
    stated = tiff_integer(data, entries, ORIENTATION)
    if stated is not None:
        code, _, at = entries[ORIENTATION]
        struct.pack_into(order + _INTEGERS[code], patched, at, 1)
        if 1 <= stated <= 8:  # EXIF goes before XMP
            found = stated
    return found, bytes(patched)


def tiff_entries(data: bytes) -> dict[int, tuple[int, int, int]]:
    """Tags of the first directory: tag -> (type, bytes of its values, where they start). Damaged entries are left
    out, and whatever is no TIFF at all gives {}."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return {}
    big = struct.unpack_from(order + "H", data, 2)[0] == 43  # BigTIFF
    start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    count, entry, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    entries: dict[int, tuple[int, int, int]] = {}
    if start + struct.calcsize(order + count) > len(data):
        return entries
    n = struct.unpack_from(order + count, data, start)[0]
    at = start + struct.calcsize(order + count)
    step = struct.calcsize(order + entry)
    for _ in range(min(n, 4096)):
        if at + step + inline > len(data):
            break
        tag, code, length = struct.unpack_from(order + entry, data, at)
        n_bytes, place = _SIZES.get(code, 0) * length, at + step
        if n_bytes > inline:
            place = struct.unpack_from(order + ("Q" if big else "I"), data, place)[0]
        if n_bytes and place + n_bytes <= len(data):
            entries.setdefault(tag, (code, n_bytes, place))
        at += step + inline
    return entries


def tiff_integer(data: bytes, entries: dict[int, tuple[int, int, int]], tag: int) -> int | None:
    """First value of an integer tag; None where it is missing or no integer."""
    code, _, at = entries.get(tag, (0, 0, 0))
    if code not in _INTEGERS:
        return None
    return int(struct.unpack_from(("<" if data[:1] == b"I" else ">") + _INTEGERS[code], data, at)[0])
