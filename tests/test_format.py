"""FORMAT.md suffices: a slow decoder written from its text alone reads what the package writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from format_field import field_of
from format_reader import decode
from format_tiles import WEIGHTS
from inrcodec.formats.container import InrFile
from tiny_files import FILES, fuzz

from inrcodec.decoder import Decoder

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "formats" / "FORMAT.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_a_decoder_written_from_the_text_reads_the_same_codes(name: str) -> None:
    stream = InrFile.of_bytes(FILES[name]).stream()
    prior = fuzz.prior_of(stream.header)
    expected = Decoder(stream.header, max_samples=2**16, prior=prior).codes(stream.payloads)
    for ours, theirs in zip(expected, decode(FILES[name]), strict=True):
        np.testing.assert_array_equal(theirs, ours)


@pytest.mark.parametrize("scale", [1.0, 1.7])
@pytest.mark.parametrize("name", [n for n in FILES if n.endswith("range") and n != "tiles-range"])
def test_the_cosine_field_written_from_the_text_has_the_same_values(name: str, scale: float) -> None:
    file = fuzz.opened(FILES[name])
    signal = file.header.signal
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.4, np.asarray(signal.shape) + 0.4, (6, len(signal.shape)))
    points[0] = 0.5
    points = points if scale == 1 else points[:2]  # the text's way is slow
    value = field_of(FILES[name], decode(FILES[name]), scale)
    expected = np.array([value(list(p)) for p in points])
    if signal.alpha:
        expected[:, -1] = (expected[:, -1] + 0.08) / 1.16
    if signal.kind == "array":
        expected = signal.offset + signal.scale * expected
    # weights are single precision in the package: 24 bits, times the sums over a few hundred of them
    found = file.sample(points, scale=scale)
    np.testing.assert_allclose(found, expected, atol=2e-6 * max(1.0, abs(signal.scale)), rtol=0)


# --- the text's own tables


def test_the_text_states_the_tables_of_the_code() -> None:
    from inrcodec.entropy import context, diagonals, leaves, magnitudes, tables
    from inrcodec.entropy.learned import N_FEATURES
    from inrcodec.fields import cosine, steps
    from inrcodec.priors import synthesis
    from inrcodec.priors.context import SHA256 as NETWORK_SHA256
    from inrcodec.priors.tables import SHA256
    from inrcodec.render import ALPHA_MARGIN

    assert f"| T | {' '.join(map(str, magnitudes.THRESHOLDS))} |" in TEXT
    assert f"entries of {diagonals._BAND_STARTS}" in TEXT
    assert f"entries of {leaves.TIME_BANDS}" in TEXT
    assert f"own, 0 … 29: {' '.join(map(str, leaves.TIME_THRESHOLDS))}." in TEXT.replace("\n", " ")
    assert f"min(|code|, {leaves.CAP})" in TEXT
    for kind, n in context.N_CONTEXTS.items():
        assert f"{kind} {n}" in TEXT
    assert f"INCREMENT = {tables.INCREMENT}, LIMIT = 2^{tables.LIMIT.bit_length() - 1}" in TEXT
    assert SHA256 in TEXT
    for number, sha256 in synthesis.SHA256.items():
        assert f"| {number}{' (detail)' * (number == cosine.DETAIL)} | `{sha256}` |" in TEXT
    assert (synthesis.INPUT_UNIT, synthesis.INPUT_LIMIT) == (64, 768)
    assert (synthesis.HIDDEN_UNIT, synthesis.HIDDEN_LIMIT) == (256, 1536)
    assert (synthesis.OUTPUT_UNIT, synthesis.OUTPUT_LIMIT) == (64, 512)
    assert NETWORK_SHA256 in TEXT
    assert f"The {N_FEATURES} features" in TEXT
    assert steps.SPLINE_STEP == 1 / 4
    assert steps.MASKING_UNIT == 1 / 4
    from dataclasses import astuple

    assert {k: astuple(w) for k, w in context._WEIGHTS.items()} == WEIGHTS
    assert ALPHA_MARGIN == 0.08
    assert len(magnitudes.THRESHOLDS) + 1 == magnitudes.N_CLASSES
