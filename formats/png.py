"""Splits PNG bytes into checked chunks, and writes 16-bit pictures as PNG, which Pillow cannot."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from inrcodec.errors import SignalError

__all__ = ["MAGIC", "split", "write", "xmp_chunk"]

MAGIC = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels
_ROWS = 256  # filtered at a time


def split(data: bytes) -> dict[bytes, bytes]:
    """PNG bytes -> the first chunk of each type but IDAT. Raises SignalError where the file is cut short or a CRC
    differs: Pillow shows such pictures in part, or reads past the damage without a word."""
    found: dict[bytes, bytes] = {}
    at = len(MAGIC)
    while b"IEND" not in found:
        if at + 12 > len(data):
            raise SignalError(f"truncated PNG: ends at byte {len(data):,}, inside its chunks")
        n, name = struct.unpack_from(">I4s", data, at)
        if at + 12 + n > len(data):
            raise SignalError(f"truncated PNG: chunk at byte {at:,} has {n:,} bytes, {len(data) - at - 12:,} are left")
        if zlib.crc32(memoryview(data)[at + 4 : at + 8 + n]) != struct.unpack_from(">I", data, at + 8 + n)[0]:
            raise SignalError(f"damaged PNG: chunk at byte {at:,} has a wrong CRC")
        if name != b"IDAT":
            found.setdefault(name, data[at + 8 : at + 8 + n])
        at += 12 + n
    return found


def write(values: np.ndarray, *, icc: bytes, exif: bytes, xmp: bytes) -> bytes:
    """values: uint16 [H, W, C], C = 1 … 4 (gray, gray + alpha, RGB, RGBA). Empty metadata is left out."""
    height, width, channels = values.shape
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _COLOUR_TYPES[channels], 0, 0, 0))]
    if icc:
        chunks.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if exif:
        chunks.append(_chunk(b"eXIf", exif))
    if xmp:
        chunks.append(_chunk(*xmp_chunk(xmp)))
    packer = zlib.compressobj(6)
    above = np.zeros((1, width * channels * 2), np.uint8)
    body = bytearray()
    for start in range(0, height, _ROWS):
        rows = np.ascontiguousarray(values[start : start + _ROWS], ">u2").reshape(-1, width * channels).view(np.uint8)
        body += packer.compress(_paeth(rows, np.concatenate([above, rows[:-1]]), 2 * channels))
        above = rows[-1:]
    body += packer.flush()
    return b"".join([MAGIC, *chunks, _chunk(b"IDAT", bytes(body)), _chunk(b"IEND", b"")])


def xmp_chunk(xmp: bytes) -> tuple[bytes, bytes]:
    """Type and payload of the chunk that holds XMP."""
    return b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp


def _paeth(rows: np.ndarray, above: np.ndarray, n_bytes: int) -> bytes:
    """Filter 4 of the PNG specification. rows, above: bytes [R, B]; n_bytes: of a pixel."""
    a = np.zeros(rows.shape, np.int16)  # left
    b = above.astype(np.int16)
    c = np.zeros(rows.shape, np.int16)  # above left
    a[:, n_bytes:] = rows[:, :-n_bytes]
    c[:, n_bytes:] = above[:, :-n_bytes]
    far_a, far_b, far_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    guess = np.where((far_a <= far_b) & (far_a <= far_c), a, np.where(far_b <= far_c, b, c))
    filtered = (rows - guess).astype(np.uint8)
    return np.concatenate([np.full((len(rows), 1), 4, np.uint8), filtered], axis=1).tobytes()


def _chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))
