"""The .inr container: what pack writes, unpack reads; what pack never writes, it refuses, naming the cause."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import pytest
from inrcodec.formats.container import MAGIC, MAX_METADATA_BYTES, MAX_UNKNOWN, InrFile, pack
from inrcodec.formats.header import MAX_HEADER_BYTES, pack_header
from tiny_headers import GRAY, HEADERS, SOUND, VOLUME

from inrcodec.errors import FormatError, InrError, UnsupportedError
from inrcodec.stream import Header, Stream


def stream_of(header: Header, **metadata: bytes) -> Stream:
    return Stream(header, tuple(bytes([i]) * (i + 1) for i in range(header.n_chunks)), b"\1\2\3\4\5\6\7\x08", metadata)


def chunk(kind: bytes, payload: bytes = b"") -> bytes:
    body = struct.pack("<I", len(payload)) + kind + payload
    return body + struct.pack("<I", zlib.crc32(body))


def file_of(header: Header = SOUND, *, before: bytes = b"", after: bytes = b"", data: int | None = None) -> bytes:
    """A file by hand: chunks `before` follow HEAD, chunks `after` precede DONE."""
    payloads = [b"x"] * (header.n_chunks if data is None else data)
    index = chunk(b"INDX", struct.pack("<I", 1) * len(payloads)) if len(payloads) > 1 else b""
    chunks = b"".join(chunk(b"DATA", p) for p in payloads)
    return MAGIC + chunk(b"HEAD", pack_header(header)) + before + index + chunks + after + chunk(b"DONE", bytes(8))


@pytest.mark.parametrize("header", HEADERS)
def test_reading_undoes_pack_for_whole_files(header: Header) -> None:
    stream = stream_of(header, icc=b"profile", exif=b"", xmp=b"<x/>", tags=b"TITLE=a\n")
    read = InrFile.of_bytes(pack(stream))
    assert read.stream() == stream
    assert not read.truncated
    read.check()


def test_the_smallest_file_is_these_bytes() -> None:
    # HEAD payload: version 1.0, then an array of 8 (0x98):
    #   encoder [0, 0, 0]                      93 00 00 00
    #   quality 0                              00
    #   signal [image 1, shape [3, 5], 1 channel, u1 = 1, gray = 1, rate 0]
    #                                          96 01 92 03 05 01 01 01 00
    #   cells [1, 1]                           92 01 01
    #   field [multihead 1, cosine 1, pitches [], rotation [], masking 0, synthesis 0, detail 0, dependent 0, deltas 0]
    #                                          99 01 01 90 90 00 00 00 00 00
    #   quantiser [steps [65536 = ce 00010000], slope 0, shrink 0, 0]
    #                                          94 91 ce 00 01 00 00 00 00 00
    #   coder [zstd 1, tables 0]               92 01 00
    #   levels []                              90
    head = bytes.fromhex(
        "0100 98 93000000 00 96 01 9203 05 01 01 01 00 920101 9901019090000000000094 91ce00010000 00 00 00 920100 90"
    )
    assert pack_header(GRAY) == head
    expected = b"\x89INR\r\n\x1a\n"
    expected += struct.pack("<I", len(head)) + b"HEAD" + head
    expected += struct.pack("<I", zlib.crc32(expected[8:]))
    expected += bytes.fromhex("01000000") + b"DATA" + b"\0" + struct.pack("<I", zlib.crc32(b"\1\0\0\0DATA\0"))
    done = bytes.fromhex("08000000") + b"DONE" + bytes.fromhex("0102030405060708")
    expected += done + struct.pack("<I", zlib.crc32(done))
    assert pack(stream_of(GRAY)) == expected


@pytest.mark.parametrize("header", [GRAY, replace(SOUND, cells=(1,)), replace(VOLUME, levels=())])
def test_a_single_chunk_file_spends_at_most_64_bytes_beyond_header_and_payload(header: Header) -> None:
    # magic 8, frames of HEAD, DATA and DONE 12 each, digest 8: 52. The header's own values (37 to 75 bytes) describe
    # the signal, as the payload does.
    stream = stream_of(header)
    assert len(pack(stream)) - len(pack_header(header)) - sum(map(len, stream.payloads)) == 52
    assert len(pack_header(header)) <= 80


def test_sections_fill_the_file_without_holes() -> None:
    data = pack(stream_of(VOLUME, icc=b"abc"))
    sections = InrFile.of_bytes(data).sections
    assert [s.kind for s in sections] == ["HEAD", "INDX", "DATA", "DATA", "DATA", "icCP", "DONE"]
    at = len(MAGIC)
    for section in sections:
        assert section.offset == at + 8
        at += 12 + section.n_bytes
    assert at == len(data)


def test_an_unknown_ancillary_chunk_is_skipped_and_listed() -> None:
    read = InrFile.of_bytes(file_of(before=chunk(b"noTE", b"hello"), after=chunk(b"abcd")))
    assert [s.kind for s in read.sections] == ["HEAD", "noTE", "INDX", *["DATA"] * 3, "abcd", "DONE"]
    assert len(read.stream().payloads) == 3


def test_a_damaged_unknown_chunk_is_damage_not_novelty() -> None:
    with pytest.raises(FormatError, match="CRC"):
        InrFile.of_bytes(file_of(before=chunk(b"NOTE")[:-1] + b"?"))


def test_an_unknown_critical_chunk_is_unsupported() -> None:
    with pytest.raises(UnsupportedError, match="NOTE"):
        InrFile.of_bytes(file_of(before=chunk(b"NOTE")))


def test_more_unknown_chunks_than_anybody_needs_are_refused() -> None:
    InrFile.of_bytes(file_of(before=chunk(b"noTE") * MAX_UNKNOWN))
    with pytest.raises(FormatError, match="unknown chunks"):
        InrFile.of_bytes(file_of(before=chunk(b"noTE") * (MAX_UNKNOWN + 1)))


def test_a_newer_major_version_is_unsupported_and_named() -> None:
    head = chunk(b"HEAD", bytes((2, 3)) + b"whatever comes then")
    with pytest.raises(UnsupportedError, match=r"2\.3"):
        InrFile.of_bytes(MAGIC + head)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\x89INR", "truncated"),
        (MAGIC, "truncated"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(99), "not an .inr"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "not an .inr"),
        (b"just some text, longer than the magic", "not an .inr"),
        (b"\x89INR\n\x1a\n" + bytes(99), "not an .inr"),  # line ends changed on the way
    ],
)
def test_other_files_are_not_inr_files(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        InrFile.of_bytes(data)


def test_inrimage_medical_files_are_recognised() -> None:
    with pytest.raises(UnsupportedError, match="INRIMAGE-4"):
        InrFile.of_bytes(b"#INRIMAGE-4#{\nXDIM=150\n" + bytes(200))


def test_trailing_bytes_are_refused() -> None:
    with pytest.raises(FormatError, match="1 bytes after"):
        InrFile.of_bytes(file_of() + b"\0")


@pytest.mark.parametrize(
    "data",
    [
        file_of(before=chunk(b"HEAD", pack_header(SOUND))),
        file_of(after=chunk(b"INDX", struct.pack("<3I", 1, 1, 1))),  # twice
        file_of(after=chunk(b"icCP") * 2),
        file_of(before=chunk(b"icCP")),  # before DATA
        file_of(before=chunk(b"DATA", b"x"), data=2),  # before INDX
        file_of(before=chunk(b"DONE", bytes(8))),  # two ends
        file_of(data=2),
        file_of(data=4),
        file_of(data=0),
        MAGIC + file_of()[len(MAGIC) + 12 + len(pack_header(SOUND)) :],  # no HEAD
    ],
)
def test_missing_repeated_and_misplaced_chunks_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError):
        InrFile.of_bytes(data)


def test_a_type_that_is_not_letters_is_refused() -> None:
    with pytest.raises(FormatError, match="four letters"):
        InrFile.of_bytes(file_of(before=chunk(b"no-E")))


def by_hand(*chunks: bytes, header: Header = SOUND) -> bytes:
    return MAGIC + chunk(b"HEAD", pack_header(header)) + b"".join(chunks) + chunk(b"DONE", bytes(8))


@pytest.mark.parametrize("index", [None, (1, 1), (1, 2, 1), (1, 1, 1, 1)])
def test_the_index_must_be_there_and_match(index: tuple[int, ...] | None) -> None:
    start = [] if index is None else [chunk(b"INDX", struct.pack(f"<{len(index)}I", *index))]
    with pytest.raises(FormatError, match="index"):
        InrFile.of_bytes(by_hand(*start, *[chunk(b"DATA", b"x")] * 3))


def test_an_index_for_a_single_chunk_is_needless() -> None:
    with pytest.raises(FormatError, match="index"):
        InrFile.of_bytes(by_hand(chunk(b"INDX", struct.pack("<I", 1)), chunk(b"DATA", b"x"), header=GRAY))


@pytest.mark.parametrize("n", [0, 7, 9])
def test_the_digest_has_8_bytes(n: int) -> None:
    data = MAGIC + chunk(b"HEAD", pack_header(GRAY)) + chunk(b"DATA", b"x") + chunk(b"DONE", bytes(n))
    with pytest.raises(FormatError, match="end chunk"):
        InrFile.of_bytes(data)


def test_a_header_beyond_its_cap_is_refused_before_it_is_read() -> None:
    with pytest.raises(FormatError, match="limit"):
        InrFile.of_bytes(MAGIC + struct.pack("<I4s", MAX_HEADER_BYTES + 1, b"HEAD"))


def test_metadata_beyond_its_cap_is_refused_before_it_is_read() -> None:
    class Long(io.BytesIO):
        """Claims to be as long as its chunks say; nothing behind them is ever read."""

        def seek(self, at: int, whence: int = 0) -> int:
            return 2**33 if whence == 2 else super().seek(at, whence)

    start = file_of()[: -len(chunk(b"DONE", bytes(8)))]
    with pytest.raises(FormatError, match=r"icCP .* limit"):
        InrFile(Long(start + struct.pack("<I4s", MAX_METADATA_BYTES + 1, b"icCP")))


def test_every_prefix_is_truncated_and_opens_in_part_from_the_header_on() -> None:
    data = pack(stream_of(VOLUME, icc=b"abc"))
    header_end = len(MAGIC) + 12 + len(pack_header(VOLUME))
    for n in range(len(data)):
        with pytest.raises(FormatError):
            InrFile.of_bytes(data[:n])
        if n < header_end:
            with pytest.raises(FormatError):
                InrFile.of_bytes(data[:n], partial=True)
        else:
            part = InrFile.of_bytes(data[:n], partial=True)
            assert part.truncated
            assert part.digest() == b""
            read = part.stream().payloads
            there = [p for p in read if p is not None]
            assert tuple(there) == stream_of(VOLUME).payloads[: len(there)] == read[: len(there)]


def test_every_message_is_one_short_line() -> None:
    data = pack(stream_of(VOLUME))
    for at in range(len(data)):
        for value in (0, 0x91, 0xC1, 0xFF):
            damaged = bytearray(data)
            damaged[at] = value
            try:
                InrFile.of_bytes(bytes(damaged)).check()
            except InrError as error:
                assert 0 < len(str(error)) < 200
                assert "\n" not in str(error)
