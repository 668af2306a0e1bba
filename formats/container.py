"""Turns a Stream into .inr bytes and .inr bytes into a Stream. FORMAT.md beside this file is the specification.

    89 'I' 'N' 'R' 0D 0A 1A 0A · HEAD · [INDX] · DATA… · metadata · DONE
    chunk = length u32 · type[4] · payload · CRC-32 of the three, little-endian

Needs neither numpy nor torch.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO

from inrcodec.formats.header import MAX_HEADER_BYTES, pack_header, unpack_header

from inrcodec.errors import FormatError, UnsupportedError
from inrcodec.stream import Header, Stream

__all__ = ["MAGIC", "METADATA_TYPES", "InrFile", "Section", "chunk", "pack"]

MAGIC = b"\x89INR\r\n\x1a\n"
INRIMAGE = b"#INRIMAGE-4#"
METADATA_TYPES = {"icc": b"icCP", "exif": b"exIF", "xmp": b"xmpX", "tags": b"taGS"}
MAX_METADATA_BYTES = 2**26
MAX_UNKNOWN = 256  # ancillary chunks of other versions
DIGEST_BYTES = 8
FRAME_BYTES = 12  # of a chunk beyond its payload
# chunks come in this order; ancillary ones this version does not know may stand anywhere between HEAD and DONE
_ORDER = {b"HEAD": 0, b"INDX": 1, b"DATA": 2, **dict.fromkeys(METADATA_TYPES.values(), 3), b"DONE": 4}


def pack(stream: Stream) -> bytes:
    """The whole file. Every payload must be there."""
    payloads = [p for p in stream.payloads if p is not None]
    assert len(payloads) == len(stream.payloads)
    chunks = [chunk(b"HEAD", pack_header(stream.header))]
    if len(payloads) > 1:
        chunks.append(chunk(b"INDX", b"".join(struct.pack("<I", len(p)) for p in payloads)))
    chunks += [chunk(b"DATA", p) for p in payloads]
    for name, kind in METADATA_TYPES.items():
        if name in stream.metadata:
            chunks.append(chunk(kind, stream.metadata[name]))
    chunks.append(chunk(b"DONE", stream.digest))
    return MAGIC + b"".join(chunks)


def chunk(kind: bytes, payload: bytes) -> bytes:
    """length · type · payload · CRC, of this and of prior files."""
    body = struct.pack("<I4s", len(payload), kind) + payload
    return body + struct.pack("<I", zlib.crc32(body))


@dataclass(frozen=True)
class Section:
    """One chunk in the file: its type, where its payload starts, and how many bytes that has."""

    kind: str
    offset: int
    n_bytes: int


class InrFile:
    """A seekable .inr file whose header has been read; payloads are read, and their CRC checked, when asked for.

    Opening walks the chunk frames, 8 bytes each, and checks that they fill the file without holes, in order. With
    partial=True a file that ends early is opened as far as it goes; `truncated` then tells.
    Raises FormatError, UnsupportedError.
    """

    def __init__(self, file: BinaryIO, *, partial: bool = False) -> None:
        self._file = file
        self.n_bytes = file.seek(0, io.SEEK_END)
        self.truncated = False
        self._check_magic()
        at, head = self._frame(len(MAGIC))
        if not head.kind:
            raise FormatError(f"truncated in the header: {self.n_bytes} bytes")
        if head.kind != "HEAD":
            raise FormatError(f"chunk at byte {len(MAGIC)}: {head.kind!r}, wanted HEAD")
        if head.n_bytes > MAX_HEADER_BYTES:
            raise FormatError(f"header at byte 8: {head.n_bytes:,} bytes, limit {MAX_HEADER_BYTES:,}")
        if at > self.n_bytes:
            raise FormatError(f"truncated in the header: {self.n_bytes} bytes")
        self.header: Header = unpack_header(self._read(head))
        self.sections = [head, *self._walk(at, partial)]
        self._data = [s for s in self.sections if s.kind == "DATA"]
        self._check_data()

    @classmethod
    def of_bytes(cls, data: bytes, *, partial: bool = False) -> InrFile:
        return cls(io.BytesIO(data), partial=partial)

    def payload(self, i: int) -> bytes | None:
        """DATA chunk i; None where a truncated file ends before it."""
        return self._read(self._data[i]) if i < len(self._data) else None

    def metadata(self) -> dict[str, bytes]:
        found = {s.kind: s for s in self.sections}
        return {n: self._read(found[k.decode()]) for n, k in METADATA_TYPES.items() if k.decode() in found}

    def digest(self) -> bytes:
        """Of the decoded codes, as the encoder had them; b"" in a truncated file."""
        return b"" if self.truncated else self._read(self.sections[-1])

    def stream(self) -> Stream:
        """All of it."""
        payloads = tuple(self.payload(i) for i in range(self.header.n_chunks))
        return Stream(self.header, payloads, self.digest(), self.metadata())

    def check(self) -> None:
        """Read every chunk and check its CRC."""
        for section in self.sections:
            self._read(section)

    # --- reading, in the order it happens

    def _check_magic(self) -> None:
        self._file.seek(0)
        start = self._file.read(len(INRIMAGE))
        if start.startswith(MAGIC):
            return
        if not start:
            raise FormatError("empty file")
        if start.startswith(INRIMAGE):
            raise UnsupportedError("an INRIMAGE-4 medical image, which shares the suffix .inr only")
        if MAGIC.startswith(start):
            raise FormatError(f"truncated: {len(start)} bytes")
        raise FormatError("not an .inr file (the first bytes are not its magic)")

    def _frame(self, at: int) -> tuple[int, Section]:
        """Chunk that starts at a byte -> (byte after it, Section). The chunk may reach past the end."""
        self._file.seek(at)
        frame = self._file.read(8)
        if len(frame) < 8:
            return self.n_bytes + 1, Section("", at, 0)
        length, kind = struct.unpack("<I4s", frame)
        if not kind.isalpha() or not kind.isascii():
            raise FormatError(f"chunk at byte {at}: type {kind!r} is not four letters")
        return at + FRAME_BYTES + length, Section(kind.decode("ascii"), at + 8, length)

    def _walk(self, at: int, partial: bool) -> list[Section]:
        sections: list[Section] = []
        seen: set[bytes] = set()
        rank = unknown = n_data = 0
        while True:
            end, section = self._frame(at)
            if end > self.n_bytes:
                if not partial:
                    raise FormatError(f"truncated: the file ends at byte {self.n_bytes}, inside the chunk at {at}")
                self.truncated = True
                return sections
            kind = section.kind.encode()
            if kind not in _ORDER:
                self._read(section)  # damage comes before novelty
                if section.kind[0].isupper():
                    raise UnsupportedError(f"chunk {section.kind} at byte {at} is not known to this version")
                unknown += 1
                if unknown > MAX_UNKNOWN:
                    raise FormatError(f"more than {MAX_UNKNOWN} unknown chunks, at byte {at}")
            elif kind == b"HEAD" or _ORDER[kind] < rank or (kind != b"DATA" and kind in seen):
                raise FormatError(f"chunk {section.kind} at byte {at} is out of order or repeated")
            else:
                rank = _ORDER[kind]
                seen.add(kind)
                n_data += kind == b"DATA"
                if n_data > self.header.n_chunks:
                    raise FormatError(f"DATA chunk {n_data} at byte {at}, wanted {self.header.n_chunks}")
                if rank == 3 and section.n_bytes > MAX_METADATA_BYTES:
                    raise FormatError(
                        f"{section.kind} at byte {at}: {section.n_bytes:,} bytes, limit {MAX_METADATA_BYTES:,}"
                    )
            sections.append(section)
            if kind == b"DONE":
                if end != self.n_bytes:
                    raise FormatError(f"{self.n_bytes - end} bytes after the end chunk")
                if section.n_bytes != DIGEST_BYTES:
                    raise FormatError(f"end chunk of {section.n_bytes} bytes, wanted {DIGEST_BYTES}")
                return sections
            at = end

    def _check_data(self) -> None:
        """As many DATA chunks as the header calls for, as long as the index says."""
        if self.truncated:
            return
        if len(self._data) != self.header.n_chunks:
            raise FormatError(f"{len(self._data)} DATA chunks, wanted {self.header.n_chunks}")
        index = next((s for s in self.sections if s.kind == "INDX"), None)
        if (index is None) != (len(self._data) == 1):
            raise FormatError("index is missing or needless")
        if index is not None:
            lengths = struct.pack(f"<{len(self._data)}I", *(s.n_bytes for s in self._data))
            if index.n_bytes != len(lengths) or self._read(index) != lengths:
                raise FormatError("index does not match the DATA chunks")

    def _read(self, section: Section) -> bytes:
        """Payload of a section that lies within the file, CRC checked."""
        start = section.offset - 8
        self._file.seek(start)
        chunk = self._file.read(FRAME_BYTES + section.n_bytes)
        if len(chunk) < FRAME_BYTES + section.n_bytes:
            raise FormatError(f"truncated in the chunk at byte {start}")
        if zlib.crc32(memoryview(chunk)[:-4]) != struct.unpack("<I", chunk[-4:])[0]:
            raise FormatError(f"chunk at byte {start}: CRC does not match, the file is damaged")
        return chunk[8:-4]
