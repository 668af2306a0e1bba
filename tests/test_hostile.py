"""Damaged and hostile .inr files: one typed error each, soon, in little memory; never another exception."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from inrcodec.formats.container import MAGIC, InrFile, pack
from inrcodec.formats.header import pack_header
from tiny_files import FILES, fuzz

import inrcodec
from inrcodec import api
from inrcodec.decoder import Decoder
from inrcodec.errors import FormatError, InrError, LimitError, UnsupportedError
from inrcodec.render import expand
from inrcodec.signals import SignalMeta
from inrcodec.stream import EQUAL, MAX_SECOND, Quantiser

ALLOWED = (FormatError, UnsupportedError, LimitError)
N_MUTANTS = 1000  # benchmarks/fuzz.py runs as many as one likes


def attempt(data: bytes, *, partial: bool = False) -> np.ndarray | InrError:
    """What a reader makes of these bytes: values of a whole decode and a clean verify, or the first error. Any
    exception but the allowed ones goes through."""
    try:
        file = fuzz.opened(data, partial=partial)
        values = file.decode(max_samples=2**16)
        file.verify(max_samples=2**16)
    except ALLOWED as error:
        return error
    return values


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_a_format_error(name: str) -> None:
    data = FILES[name]
    for n in range(len(data)):
        assert isinstance(attempt(data[:n]), FormatError), n


@pytest.mark.parametrize("name", FILES)
def test_every_single_bit_flip_is_an_error(name: str) -> None:
    data = FILES[name]
    for at, bit in itertools.product(range(len(data)), range(8)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << bit
        assert isinstance(attempt(bytes(damaged)), InrError), (at, bit)


@pytest.mark.parametrize("name", FILES)
def test_every_bit_flip_of_a_partial_read_is_an_error_or_a_picture(name: str) -> None:
    # a length that grew looks like a file that was cut off: what comes before it may decode
    data = FILES[name]
    shape = fuzz.opened(data).decode().shape
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        result = attempt(bytes(damaged), partial=True)
        assert isinstance(result, InrError) or result.shape == shape


@pytest.mark.parametrize("name", FILES)
def test_every_prefix_behind_the_header_decodes_in_part_at_full_size(name: str) -> None:
    data = FILES[name]
    whole = fuzz.opened(data).decode()
    header_end = len(MAGIC) + 12 + len(pack_header(InrFile.of_bytes(data).header))
    for n in range(len(data)):
        result = attempt(data[:n], partial=True)
        if n < header_end:
            assert isinstance(result, FormatError)
        else:
            assert isinstance(result, np.ndarray)
            assert result.shape == whole.shape
            assert result.dtype == whole.dtype


@pytest.mark.parametrize("coder", ["zstd", "range"])
def test_each_level_more_brings_the_picture_closer(coder: str) -> None:
    data = FILES[f"levels-{coder}"]
    ends = [s.offset + s.n_bytes + 4 for s in InrFile.of_bytes(data).sections if s.kind == "DATA"]
    whole = api.open(data).decode().astype(float)
    errors = [np.mean((api.open(data[:end], partial=True).decode() - whole) ** 2) for end in ends]
    assert len(errors) == 3
    assert errors[0] > errors[1] > errors[2] == 0


def test_mutants_with_right_checksums_decode_to_the_same_codes_or_fail_cleanly() -> None:
    rngs = {name: np.random.default_rng([99, i]) for i, name in enumerate(FILES)}
    streams: dict[str, Iterator[bytes]] = {name: fuzz.mutants(FILES[name], rngs[name], 400) for name in FILES}
    codes = {name: fuzz.as_bytes(fuzz.codes_of(data)) for name, data in FILES.items()}
    outcomes: Counter[str] = Counter()
    for name in itertools.islice(itertools.cycle(FILES), N_MUTANTS):
        mutant = next(streams[name])
        outcomes[fuzz.outcome(mutant, FILES[name], codes[name])] += 1  # raises what is not allowed
        fuzz.outcome_of_variants(mutant, rngs[name])
    assert outcomes["FormatError"] > N_MUTANTS / 2  # two thirds of 102,000


@pytest.mark.parametrize("name", FILES)
def test_other_codes_under_the_same_digest_are_refused(name: str) -> None:
    stream = InrFile.of_bytes(FILES[name]).stream()
    decoder = Decoder(stream.header, max_samples=2**16, prior=fuzz.prior_of(stream.header))
    codes = [c.copy() for c in decoder.codes(stream.payloads)]
    some = next(c for c in reversed(codes) if c.any()).reshape(-1)
    some[np.flatnonzero(some)[0]] *= -1
    payloads = decoder._coder.encode(codes, decoder.field.layouts, decoder._chunks)
    changed = pack(replace(stream, payloads=tuple(payloads)))
    assert isinstance(attempt(changed), FormatError)
    with pytest.raises(FormatError, match="hash"):
        fuzz.opened(changed).decode()
    with pytest.raises(FormatError, match="hash"):
        fuzz.opened(changed).verify()


# --- numbers beyond all bounds


@pytest.mark.parametrize("code", ["b1", "u1", "u8", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (1.7e308, 1.7e308), (-1.7e308, 1.7e308), (0.0, 0.0)])
def test_any_value_becomes_a_sample_without_a_warning(code: str, offset: float, scale: float) -> None:
    meta = SignalMeta("array", (7,), 1, code, offset=offset, scale=scale)
    values = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 1e39, 0.0])[:, None]
    assert np.isfinite(expand(values, meta).astype(np.float64)).all()


@pytest.mark.parametrize("code", ["u1", "i2", "i3", "i4", "f4", "f8"])
def test_any_value_becomes_a_sound_without_a_warning(code: str) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 1e39, 0.0])[:, None]
    assert np.isfinite(expand(values, SignalMeta("sound", (7,), 1, code, sample_rate_hz=1))).all()


@pytest.mark.parametrize("name", FILES)
def test_the_largest_weights_at_the_largest_steps_render_silently(name: str) -> None:
    data = FILES[name]
    h = api.open(data).header
    second = MAX_SECOND if h.quantiser.second != EQUAL else EQUAL
    steps = (2**32 - 1,) * len(h.quantiser.steps)
    loud = replace(h, quantiser=Quantiser(steps, h.quantiser.slope, h.quantiser.shrink, second))
    decoder = Decoder(loud, max_samples=2**16, prior=fuzz.prior_of(h))
    rng = np.random.default_rng(0)
    codes = [
        rng.choice(np.array([-(2**30) + 1, 2**30 - 1], np.int32), layout.shape) for layout in decoder.field.layouts
    ]
    if h.field.segments:  # other labels are refused before
        codes[0] %= h.field.segments
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = decoder.weights(codes)
        for scale in (1.0, 0.3, 1.5):
            values, _ = decoder.render(weights, api.DecodeSettings(scale=scale))
            assert np.isfinite(values.astype(np.float64)).all()
        decoder.sample(weights, np.full((2, len(h.signal.shape)), 1.25))


def test_metadata_of_any_bytes_is_carried_out_of_the_way() -> None:
    stream = InrFile.of_bytes(FILES["picture-zstd"]).stream()
    noise = np.random.default_rng(0).bytes(300)
    data = pack(replace(stream, metadata={"icc": noise, "exif": noise, "xmp": noise, "tags": noise}))
    assert inrcodec.open(data).metadata() == dict.fromkeys(("icc", "exif", "xmp", "tags"), noise)
    np.testing.assert_array_equal(inrcodec.open(data).decode(), inrcodec.open(FILES["picture-zstd"]).decode())
