"""The header: what pack writes, unpack reads; what pack never writes, it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
from inrcodec.formats.header import VERSION, pack_header, unpack_header
from tiny_headers import COLOUR, GRAY, HEADERS, NETWORKS, SOUND, VOLUME, header_values, packed

from inrcodec.errors import FormatError, UnsupportedError
from inrcodec.stream import FieldSpec, Header


@pytest.mark.parametrize("header", HEADERS)
def test_unpack_undoes_pack_for_headers(header: Header) -> None:
    assert unpack_header(pack_header(header)) == header


def test_a_newer_minor_version_may_append_to_the_header() -> None:
    values = [*header_values(GRAY), [1, 2, [3]]]
    assert unpack_header(packed(values, (1, 1))) == GRAY
    with pytest.raises(FormatError):
        unpack_header(packed(values))


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
        (VOLUME, (4, 6), 1),  # a detail network for an array
        (GRAY, (4, 7), 2),
        (COLOUR, (4, 5), 0),  # deltas of no network
        (COLOUR, (4, 8), 2),
        (VOLUME, (4, 8), 1),
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
        (COLOUR, (5, 4), 0),  # steps of the second colour
        (COLOUR, (5, 4), 16),  # as those of the others, which is not told
        (COLOUR, (5, 4), 256),
        (COLOUR, (5, 4), [24]),
        (COLOUR, (5,), [[65536], 112, -6, 5, 24, 24]),
        (GRAY, (5,), [[65536], 0, 0, 0, 24]),  # there is no second one
        (SOUND, (5,), [[7], 32, 3, 2, 24]),
        (NETWORKS, (5,), [[1, 2, 3, 4, 5, 6, 7], 0, 0, 0, 24]),
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
