"""One header of each kind, for the tests of the header and of the container around it."""

from __future__ import annotations

from dataclasses import replace

import msgpack
from inrcodec.formats.header import VERSION, pack_header

from inrcodec.signals import SignalMeta
from inrcodec.stream import FieldSpec, Header, Quantiser

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
    table_set=4,
    quality_mdb=31_000,
    encoder=(0, 1, 0),
)


VOLUME = Header(
    signal=SignalMeta("array", (6, 5, 7), 2, "f8", "plain", 0, -1.5, 3.25, True),
    cells=(2, 2, 2),
    field=FieldSpec("multihead", "cosine", pitch=(0, 4, 9)),
    quantiser=Quantiser((2**32 - 1,), 1023, (31, -31)),
    coder="range",
    table_set=4,
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
    field=FieldSpec(
        "multihead",
        "cosine",
        pitch=(0, 4),
        rotation=(127, -3, 0, -127),
        masking=True,
        synthesis=5,
        detail=10,
        dependent=True,
        deltas=True,
    ),
    quantiser=Quantiser((65536,), 112, (-6, 5), 24),
)


CONTEXTS = replace(COLOUR, field=replace(COLOUR.field, prior=2**64 - 1), coder="range", table_set=4)


HEADERS = [GRAY, SOUND, VOLUME, NETWORKS, COLOUR, CONTEXTS]


def header_values(header: Header) -> list:
    return msgpack.unpackb(pack_header(header)[2:])


def packed(values: object, version: tuple[int, int] = VERSION) -> bytes:
    return bytes(version) + msgpack.packb(values)
