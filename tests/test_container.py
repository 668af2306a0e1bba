"""The .inr container: what pack writes, unpack reads; what pack never writes, it refuses, naming the cause."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import msgpack
import pytest
from inrcodec.formats.container import MAGIC, MAX_METADATA_BYTES, MAX_UNKNOWN, InrFile, pack
from inrcodec.formats.header import MAX_HEADER_BYTES, VERSION, pack_header, unpack_header

from inrcodec.errors import FormatError, InrError, UnsupportedError
from inrcodec.signals import SignalMeta
from inrcodec.stream import FieldSpec, Header, Quantiser, Stream

GRAY = Header(
    signal=SignalMeta("image", (3, 5), 1, "u1", "gray"),
    cells=(1, 1),
    field=FieldSpec("multihead", "cosine"),
    quantiser=Quantiser((65536,), 0, (0, 0)),
    coder="zstd",
)
SOUND = Header(
    signal=SignalMeta("sound", (300,), 2, "f4", sample_rate_hz=8000),
    cells=(130,),  # three tiles
    field=FieldSpec("multihead", "cosine"),
    quantiser=Quantiser((7,), 32, (3, 2)),
    coder="range",
    table_set=3,
    quality_mdb=31_000,
    encoder=(0, 1, 0),
)
VOLUME = Header(
    signal=SignalMeta("array", (6, 5, 7), 2, "f8", "plain", 0, -1.5, 3.25, True),
    cells=(2, 2, 2),
    field=FieldSpec("multihead", "cosine", pitch=(0, 4, 9)),
    quantiser=Quantiser((2**32 - 1,), 1023, (31, -31)),
    coder="range",
    table_set=3,
    levels=(3, 5),
)
NETWORKS = Header(
    signal=SignalMeta("image", (20, 24), 4, "u2", "rgb+alpha"),
    cells=(2, 3),
    field=FieldSpec("multihead", "fourier", 8, 1, 10, 3, 2**32 - 1),
    quantiser=Quantiser((1, 2, 3, 4, 5, 6, 7)),
    coder="zstd",
)
COLOUR = replace(
    GRAY,
    signal=SignalMeta("image", (3, 5), 3, "u1", "rgb"),
    field=FieldSpec("multihead", "cosine", pitch=(0, 4), rotation=(127, -3, 0, -127), masking=True, synthesis=2),
)
HEADERS = [GRAY, SOUND, VOLUME, NETWORKS, COLOUR]


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


def header_values(header: Header) -> list:
    return msgpack.unpackb(pack_header(header)[2:])


def packed(values: object, version: tuple[int, int] = VERSION) -> bytes:
    return bytes(version) + msgpack.packb(values)


@pytest.mark.parametrize("header", HEADERS)
def test_unpack_undoes_pack_for_headers(header: Header) -> None:
    assert unpack_header(pack_header(header)) == header


@pytest.mark.parametrize("header", HEADERS)
def test_reading_undoes_pack_for_whole_files(header: Header) -> None:
    stream = stream_of(header, icc=b"profile", exif=b"", xmp=b"<x/>", tags=b"TITLE=a\n")
    read = InrFile.of_bytes(pack(stream))
    assert read.stream() == stream
    assert not read.truncated
    assert read.unknown == []
    read.check()


def test_only_the_wanted_payloads_are_read() -> None:
    stream = InrFile.of_bytes(pack(stream_of(SOUND))).stream({1})
    assert [p is None for p in stream.payloads] == [True, False, True]


def test_the_smallest_file_is_these_bytes() -> None:
    # HEAD payload: version 1.0, then an array of 8 (0x98):
    #   encoder [0, 0, 0]                      93 00 00 00
    #   quality 0                              00
    #   signal [image 1, shape [3, 5], 1 channel, u1 = 1, gray = 1, rate 0]
    #                                          96 01 92 03 05 01 01 01 00
    #   cells [1, 1]                           92 01 01
    #   field [multihead 1, cosine 1, pitches [], rotation [], masking 0, synthesis 0]
    #                                          96 01 01 90 90 00 00
    #   quantiser [steps [65536 = ce 00010000], slope 0, shrink 0, 0]
    #                                          94 91 ce 00 01 00 00 00 00 00
    #   coder [zstd 1, tables 0]               92 01 00
    #   levels []                              90
    head = bytes.fromhex(
        "0100 98 93000000 00 96 01 9203 05 01 01 01 00 920101 9601019090000094 91ce00010000 00 00 00 920100 90".replace(
            " ", ""
        )
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
    assert read.unknown == ["noTE", "abcd"]
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


def test_a_newer_minor_version_may_append_to_the_header() -> None:
    values = [*header_values(GRAY), [1, 2, [3]]]
    assert unpack_header(packed(values, (1, 1))) == GRAY
    with pytest.raises(FormatError):
        unpack_header(packed(values))


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


def changed(header: Header, path: tuple[int, ...], value: object) -> bytes:
    """Header bytes with one value replaced; the path leads to it through the nested arrays."""
    values = header_values(header)
    node = values
    for i in path[:-1]:
        node = node[i]
    node[path[-1]] = value
    return packed(values)


@pytest.mark.parametrize(
    ("header", "path", "value"),
    [
        (GRAY, (0,), [0, 0]),
        (GRAY, (0, 0), -1),
        (GRAY, (1,), 1_000_001),
        (GRAY, (1,), 1.0),
        (GRAY, (1,), True),
        (GRAY, (2, 1), []),
        (GRAY, (2, 1), [3]),  # a picture of one axis
        (GRAY, (2, 1, 0), 0),
        (GRAY, (2, 1, 0), 2**31),
        (GRAY, (2, 1), ""),
        (GRAY, (2, 2), 0),
        (GRAY, (2, 2), 2),  # gray has one channel
        (GRAY, (2, 3), 11),  # float samples in a picture
        (GRAY, (2, 4), 0),  # a picture without colour
        (GRAY, (2, 5), 1),  # a picture with a sample rate
        (SOUND, (2, 2), 1025),
        (SOUND, (2, 4), 3),  # a sound in RGB
        (SOUND, (2, 5), 0),
        (SOUND, (2, 5), 2**31),
        (VOLUME, (2, 6), 0x7FF0000000000000),  # an infinite offset
        (VOLUME, (2, 7), 0x7FF8000000000000),  # a scale that is not a number
        (VOLUME, (2, 8), 2),
        (VOLUME, (2, 8), 0),  # two channels and no axis for them
        (GRAY, (3,), [1]),
        (GRAY, (3, 0), 0),
        (GRAY, (3, 0), 4),  # more cells than samples
        (GRAY, (4,), [2, 1]),  # an ensemble of cosines
        (VOLUME, (4, 2), [0, 4]),  # pitch of two axes of three
        (VOLUME, (4, 2, 1), 2**31 + 1),
        (VOLUME, (4, 3), [1, 0, 0, 0]),  # a colour rotation without colours
        (VOLUME, (4, 4), 2),
        (VOLUME, (4, 5), 1),  # a synthesis network for an array
        (GRAY, (4, 5), 1),  # and for a picture without a smooth level
        (COLOUR, (4, 5), 2**16 + 1),
        (COLOUR, (4, 3), [0, 0, 0, 0]),
        (COLOUR, (4, 3), [1, 0, 0]),
        (COLOUR, (4, 3), [128, 0, 0, 0]),
        (COLOUR, (4, 3), [1.0, 0, 0, 0]),
        (COLOUR, (4, 2), []),  # masking without a smooth level
        (NETWORKS, (4, 2), 0),
        (NETWORKS, (4, 2), 4097),
        (NETWORKS, (4, 3), 17),
        (NETWORKS, (4, 5), 0),  # Fourier features, none of them
        (NETWORKS, (4, 1), 2),  # features of a SIREN
        (NETWORKS, (5, 0), [1] * 6),  # a step too few
        (GRAY, (5, 0), [1, 1]),
        (GRAY, (5, 0), []),
        (GRAY, (5, 0), 1),
        (GRAY, (5, 0, 0), 0),
        (GRAY, (5, 0, 0), 2**32),
        (GRAY, (5, 1), 1024),
        (GRAY, (5, 2), 32),
        (GRAY, (5, 3), -32),
        (VOLUME, (7,), [5, 3]),
        (VOLUME, (7,), [3, 3]),
        (VOLUME, (7,), [0]),
        (VOLUME, (7,), list(range(1, 18))),
        (VOLUME, (7,), {}),
        (SOUND, (7,), [3]),  # a sound has no diagonals
        (NETWORKS, (7,), [1]),
    ],
)
def test_values_out_of_range_are_refused(header: Header, path: tuple[int, ...], value: object) -> None:
    with pytest.raises(FormatError):
        unpack_header(changed(header, path, value))


@pytest.mark.parametrize(("path", "value"), [((2, 0), 9), ((2, 3), 99), ((4, 0), 3), ((4, 1), 5), ((6, 0), 3)])
def test_ids_of_later_versions_are_unsupported(path: tuple[int, ...], value: int) -> None:
    with pytest.raises(UnsupportedError, match=str(value)):
        unpack_header(changed(GRAY, path, value))


def test_too_many_knots_are_refused() -> None:
    header = replace(
        GRAY, signal=replace(GRAY.signal, shape=(2**20, 5)), field=FieldSpec("multihead", "cosine", pitch=(1, 1))
    )
    with pytest.raises(FormatError, match="knots"):
        unpack_header(pack_header(header))


HEAD = pack_header(GRAY)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\1",
        b"\1\0",
        HEAD[:-1],
        HEAD + b"\0",  # trailing
        HEAD[:2] + b"\xdc\0\x08" + HEAD[3:],  # array16 where fixarray would do
        HEAD[:7] + b"\xcc\0" + HEAD[8:],  # uint8 where fixint would do
        HEAD[:2] + b"\xc1",  # never used in msgpack
        packed({1: 2, 3: 4}),
        bytes(VERSION) + b"\x82\1\2\1\2",  # duplicate keys
        bytes(VERSION) + b"\xd4\1\0",  # an ext type
        bytes(VERSION) + b"\xc7\0\1",  # an ext type of no bytes
        bytes(VERSION) + b"\xd6\xff\0\0\0\0",  # a timestamp
        packed("string"),
        packed(b"bytes"),
        packed([]),
        packed(7),
        packed(None),
        packed([0] * 65),
        bytes(VERSION) + b"\xdd\xff\xff\xff\xff",  # an array of 2^32 - 1
        bytes(VERSION) + b"\xc6\xff\xff\xff\xff",
        bytes(VERSION) + b"\x91" * 500 + b"\0",
        bytes(VERSION) + b"\x91" * 1000 + b"\0",
        bytes(VERSION) + b"\x91" * 60_000 + b"\0",  # a depth bomb
        bytes(VERSION) + b"\x98" + b"\x91" * 900 + b"\0" * 8,
        bytes(VERSION) + b"\x98" + b"\0" * 7 + b"\x91" * 400 + b"\0",
    ],
)
def test_headers_that_pack_never_writes_are_format_errors(payload: bytes) -> None:
    with pytest.raises(FormatError):
        unpack_header(payload)


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
