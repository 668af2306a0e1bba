"""Turns a Header into the payload of the HEAD chunk and back: two version bytes and one strict msgpack array.

Only integers, and arrays of integers, in a fixed order; every id is written out here and is never reused.
"""

from __future__ import annotations

from typing import Any

from inrcodec.formats.strict import float_bits, float_of, integer, named, pack_values, unpack_values

from inrcodec.cost import mlp_parameters, n_knots
from inrcodec.errors import FormatError
from inrcodec.signals import SAMPLE_TYPES, SignalMeta
from inrcodec.stream import (
    EQUAL,
    MAX_MDB,
    MAX_SECOND,
    MAX_SEGMENTS,
    MAX_SPLITS,
    SMALLEST_LEAF,
    FieldSpec,
    Header,
    Quantiser,
)

__all__ = ["MAX_HEADER_BYTES", "VERSION", "pack_header", "unpack_header"]

VERSION = (1, 0)  # major: readers must know it; minor: they need not
MAX_HEADER_BYTES = 2**16
MAX_AXES, MAX_CHANNELS, MAX_GROUPS, MAX_LEVELS = 3, 1024, 64, 16
MAX_KNOTS = 2**16  # per axis of the smooth level

KINDS = {"image": 1, "sound": 2, "array": 3}
TYPES = {"u1": 1, "u2": 2, "u4": 3, "u8": 4, "i1": 5, "i2": 6, "i3": 7, "i4": 8, "i8": 9, "f2": 10,
         "f4": 11, "f8": 12, "b1": 13}  # fmt: skip
COLOURS = {"plain": 0, "gray": 1, "gray+alpha": 2, "rgb": 3, "rgb+alpha": 4}
ARCHS = {"multihead": 1, "ensemble": 2}
BODIES = {"cosine": 1, "siren": 2, "relu": 3, "fourier": 4}
CODERS = {"zstd": 1, "range": 2}
N_VALUES = 8  # of the header array
CHANNELS_OF = {"gray": 1, "gray+alpha": 2, "rgb": 3, "rgb+alpha": 4}


def pack_header(header: Header) -> bytes:
    s, f, q = header.signal, header.field, header.quantiser
    values = [
        list(header.encoder),
        header.quality_mdb,
        [KINDS[s.kind], list(s.shape), s.channels, TYPES[s.sample_type], COLOURS[s.colour], s.sample_rate_hz]
        + ([float_bits(s.offset), float_bits(s.scale), int(s.channel_axis)] if s.kind == "array" else []),
        list(header.cells),
        [ARCHS[f.arch], BODIES[f.body]]
        + (
            [list(f.pitch), list(f.rotation), int(f.masking), f.synthesis, f.detail, int(f.dependent), int(f.deltas)]
            + ([f.splits, f.prior] if f.prior else [f.splits] if f.splits else [])
            if f.body == "cosine"
            else [f.width, f.depth, f.omega, f.features, f.seed, f.connections, f.segments, f.prior, f.kept]
        ),
        [list(q.steps), q.slope, *q.shrink] + ([q.second] if q.second != EQUAL else []),
        [CODERS[header.coder], header.table_set],
        list(header.levels),
    ]
    return pack_values(VERSION, values)


def unpack_header(payload: bytes) -> Header:
    """Raises FormatError for anything pack_header does not write, UnsupportedError for a newer major version or an
    id this version does not know."""

    def read(values: Any) -> Header:
        if type(values) is not list or len(values) < N_VALUES:
            raise FormatError("malformed")
        # a newer minor version may append values; readers of this one leave them
        return _header(values if payload[1] == VERSION[1] else values[:N_VALUES])

    header = unpack_values(payload, VERSION, read, name="header", max_array=MAX_GROUPS)
    if payload[1] == VERSION[1] and pack_header(header) != payload:
        raise FormatError("header: not in canonical form")
    return header


def _header(values: Any) -> Header:
    encoder, quality, signal, cells, spec, quantiser, coder, levels = values
    if any(type(v) is not list for v in (encoder, signal, cells, spec, quantiser, coder, levels)):
        raise FormatError("malformed")
    meta = _signal(signal)
    cells = tuple(integer(c, 1, n, "cells") for c, n in zip(cells, meta.shape, strict=True))
    field = _field(spec, meta, cells)
    if field.segments and any(m != 1 for m in cells):
        raise FormatError("segments in more than one cell")
    if field.kept > mlp_parameters(field, len(meta.shape), meta.channels):
        raise FormatError(f"{field.kept} weights kept of a network that has fewer")
    steps, slope, one, more, *second = quantiser
    coloured = field.body == "cosine" and meta.kind == "image" and meta.channels >= 3
    if len(second) > 1:
        raise FormatError("malformed")
    if second and not coloured:
        raise FormatError("steps of a second colour where there are no colours")
    if type(steps) is not list or len(steps) != n_groups(field):
        raise FormatError(f"quantiser steps, wanted {n_groups(field)}")
    coder_id, table_set = coder
    name = named(coder_id, CODERS, "entropy coder")
    integer(table_set, 0, 2**16, "table set")
    if field.body == "cosine" and field.prior and name == "zstd":
        raise FormatError("contexts for a coder that has none")
    if len(levels) > MAX_LEVELS or list(levels) != sorted(set(levels)):
        raise FormatError("levels are not increasing")
    if levels and (field.body != "cosine" or len(meta.shape) == 1):
        raise FormatError("levels where there are no diagonals")
    major, minor, patch = (integer(v, 0, 2**16, "encoder version") for v in encoder)
    return Header(
        signal=meta,
        cells=cells,
        field=field,
        quantiser=Quantiser(
            tuple(integer(s, 1, 2**32 - 1, "step") for s in steps),
            integer(slope, 0, 1023, "slope"),
            (integer(one, -31, 31, "shrink"), integer(more, -31, 31, "shrink")),
            *(integer(s, 1, MAX_SECOND, "second colour's steps") for s in second),
        ),
        coder=name,
        table_set=table_set,
        levels=tuple(integer(v, 1, 2**31, "level") for v in levels),
        quality_mdb=integer(quality, 0, MAX_MDB, "quality"),
        encoder=(major, minor, patch),
    )


def _signal(values: Any) -> SignalMeta:
    kind_id, shape, channels, type_id, colour_id, rate, *more = values
    kind = named(kind_id, KINDS, "signal kind")
    sample_type, colour = named(type_id, TYPES, "sample type"), named(colour_id, COLOURS, "colour")
    if type(shape) is not list:
        raise FormatError("malformed")
    if not 1 <= len(shape) <= MAX_AXES or len(shape) != {"image": 2, "sound": 1}.get(kind, len(shape)):
        raise FormatError(f"{len(shape)} axes for kind {kind}")
    if sample_type not in SAMPLE_TYPES[kind]:
        raise FormatError(f"sample type {sample_type} for kind {kind}")
    integer(channels, 1, MAX_CHANNELS, "channels")
    if (kind == "image") != (colour != "plain") or channels != CHANNELS_OF.get(colour, channels):
        raise FormatError(f"{channels} channels, colour {colour}, kind {kind}")
    integer(rate, int(kind == "sound"), 2**31 - 1 if kind == "sound" else 0, "sample rate")
    offset, scale, channel_axis = 0.0, 1.0, True
    if kind == "array":
        offset_bits, scale_bits, has_axis = more
        offset, scale = float_of(offset_bits), float_of(scale_bits)
        channel_axis = bool(integer(has_axis, 0, 1, "channel axis"))
        if not channel_axis and channels != 1:
            raise FormatError(f"{channels} channels without an axis")
    elif more:
        raise FormatError("malformed")
    shape = tuple(integer(n, 1, 2**31 - 1, "extent") for n in shape)
    return SignalMeta(kind, shape, channels, sample_type, colour, rate, offset, scale, channel_axis)


def _field(values: Any, meta: SignalMeta, cells: tuple[int, ...]) -> FieldSpec:
    arch_id, body_id, *more = values
    arch, body = named(arch_id, ARCHS, "arch"), named(body_id, BODIES, "body")
    if body == "cosine":
        pitch, quaternion, masking, synthesis, detail, dependent, deltas, *others = more
        if arch != "multihead" or len(pitch) not in (0, len(meta.shape)):
            raise FormatError("malformed field")
        pitch = tuple(integer(p, 0, 2**31, "pitch") for p in pitch)
        for extent, p in zip(meta.shape, pitch, strict=bool(pitch)):
            integer(n_knots(extent, p), 1, MAX_KNOTS, "number of knots")
        if len(quaternion) not in (0, 4) or (quaternion and not (any(quaternion) and meta.colour.startswith("rgb"))):
            raise FormatError("malformed colour rotation")
        quaternion = tuple(integer(q, -127, 127, "quaternion") for q in quaternion)
        masking = bool(integer(masking, 0, int(bool(pitch)), "masking"))
        integer(synthesis, 0, 2**16 if pitch and meta.kind == "image" else 0, "synthesis network")
        integer(detail, 0, 2**16 if pitch and meta.kind == "image" else 0, "detail network")
        dependent = bool(integer(dependent, 0, int(len(meta.shape) == 2), "dependent quantisation"))
        deltas = bool(integer(deltas, 0, int(synthesis > 0), "deltas"))
        splits, prior = _splits_and_prior(others, meta, cells)
        return FieldSpec(
            arch,
            body,
            pitch=pitch,
            rotation=quaternion,
            masking=masking,
            synthesis=synthesis,
            detail=detail,
            dependent=dependent,
            deltas=deltas,
            splits=splits,
            prior=prior,
        )
    width, depth, omega, features, seed, connections, segments, prior, kept = more
    integer(features, int(body == "fourier"), 4096 if body == "fourier" else 0, "features")
    sparse, ensemble = (arch, body) == ("multihead", "relu"), arch == "ensemble"
    integer(prior, 0, 2**64 - 1 if ensemble else 0, "prior")
    return FieldSpec(
        arch,
        body,
        integer(width, 1, 4096, "width"),
        integer(depth, 0, 16, "depth"),
        integer(omega, 0, 2**20, "omega"),
        features,
        integer(seed, 0, 2**32 - 1, "seed"),
        integer(connections, 0, width if sparse else 0, "connections"),
        integer(segments, 0, min(MAX_SEGMENTS, meta.n_samples) if ensemble and meta.kind == "image" else 0, "segments"),
        prior,
        integer(kept, int(prior > 0), 2**31 if prior else 0, "kept"),
    )


def _splits_and_prior(values: list[Any], meta: SignalMeta, cells: tuple[int, ...]) -> tuple[int, int]:
    """[], [splits] of a sound, or [0, prior] of two axes. The smallest cell has SMALLEST_LEAF samples for each of its
    parts."""
    if not values:
        return 0, 0
    if len(values) == 1:
        room = meta.n_samples // cells[0] // SMALLEST_LEAF if meta.kind == "sound" else 0
        return integer(values[0], 1, min(MAX_SPLITS, room.bit_length() - 1), "splits"), 0
    splits, prior = values
    return integer(splits, 0, 0, "splits"), integer(prior, 1, 2**64 - 1 if len(meta.shape) == 2 else 0, "prior")


def n_groups(field: FieldSpec) -> int:
    """Quantiser steps of a field: weights and biases of every layer of its MLP apart, and the heads."""
    if field.body == "cosine":
        return 1
    if field.connections:  # its body ends in the last hidden layer
        return 2 * (field.depth + 1) + 1
    return 2 * (field.depth + 2) + int(field.arch == "multihead")
