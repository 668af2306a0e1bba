"""Turns what was recorded for a training into bytes and back: a file that grows as records are made.

MAGIC · the mark of all that they depend on, 32 bytes · records. A record: u32 length · a zstd frame with its checksum,
of features [N_FEATURES, N], places, symbols, odd. All little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import zstandard

from ..entropy.exact import N_COLOURS, POSITIONS
from ..entropy.learned import N_FEATURES
from ..errors import FormatError
from ..frames import decompress
from ..parallel import in_processes
from .recording import SYMBOLS, Coding, Record, make_record

__all__ = ["pack_head", "pack_record", "packed_records", "read_records", "unpack_record"]

MAGIC = b"inrcodes"
LEVEL = 1
N_PLACES = POSITIONS * POSITIONS * N_COLOURS * 2
CODE_BYTES = N_FEATURES + 4
MAX_RECORD_BYTES = CODE_BYTES * 2**22  # unpacked: more codes than the largest picture has
WORTH_A_START = 2**20  # samples of all codings: six seconds' work


def packed_records(wanted: Sequence[Coding]) -> Iterator[bytes]:
    """Records of codings, in order: made in the processes that the caller has asked for, otherwise here."""
    n_samples = sum(coding.picture.width * coding.picture.height for coding in wanted)
    return in_processes(_packed, wanted, worth_a_start=n_samples >= WORTH_A_START)


def _packed(coding: Coding) -> bytes:
    return pack_record(make_record(coding))


def pack_head(mark: str) -> bytes:
    """What a file of records begins with."""
    return MAGIC + bytes.fromhex(mark)


def pack_record(record: Record) -> bytes:
    columns = (record.features.T, record.places.astype("<i2"), record.symbols, record.odd)
    frame = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compress(b"".join(c.tobytes() for c in columns))
    return struct.pack("<I", len(frame)) + frame


def read_records(file: BinaryIO, mark: str) -> list[Record]:
    """Those from the file's start that are whole; the file is left at their end, where another may be written: with
    pack_head in front where nothing is. Raises FormatError for what is no such file, ValueError for one of other
    pictures."""
    head = pack_head(mark)
    found = file.read(len(head))
    if not head.startswith(found):
        if not found.startswith(MAGIC):
            raise FormatError("no file of what was recorded for a training of contexts")
        raise ValueError("recorded of other pictures, with another seed, or by another version of the codec")
    if len(found) < len(head):  # cut off as it was begun
        file.seek(0)
        return []
    records, end = [], file.tell()
    while len(size := file.read(4)) == 4 and struct.unpack("<I", size)[0] <= MAX_RECORD_BYTES:
        try:
            records.append(unpack_record(size + file.read(*struct.unpack("<I", size))))
        except FormatError:
            break
        end = file.tell()
    file.seek(end)
    return records


def unpack_record(data: bytes) -> Record:
    """Inverse of pack_record. Raises FormatError for damage."""
    raw = np.frombuffer(decompress(data[4:], limit=MAX_RECORD_BYTES), np.uint8)
    n, rest = divmod(len(raw), CODE_BYTES)
    if rest or int.from_bytes(data[:4], "little") != len(data) - 4:
        raise FormatError(f"record of {len(raw):,} bytes, wanted {CODE_BYTES} a code")
    features, places, symbols, odd = np.split(raw, [n * N_FEATURES, n * (N_FEATURES + 2), n * (N_FEATURES + 3)])
    features = np.ascontiguousarray(features.reshape(N_FEATURES, n).T)
    made = Record(features, places.view("<i2").astype(np.int16), symbols, odd)
    if n and not (0 <= made.places.min() <= made.places.max() < N_PLACES and symbols.max() < SYMBOLS and odd.max() < 2):
        raise FormatError("record: places, symbols or quantisers out of range")
    return made
