"""The scripts that train networks record what the codec of today gives, and train what it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inrcodec.fields.synthesis import convolve, facts
from inrcodec.priors import synthesis as shipped

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))


@pytest.mark.parametrize("tune", ["psnr", "perceptual"])
def test_recordings_of_pictures_that_have_deltas(tune: str) -> None:
    import train_detail
    import train_synthesis

    picture = Image.open(ROOT / "samples" / "coffee.png").convert("RGB").crop((100, 0, 500, 380))
    small = np.asarray(picture, np.float32) / 255
    large = np.asarray(picture.resize((800, 760), Image.Resampling.LANCZOS), np.float32) / 255
    recorded = train_synthesis.code(small, tune, 0.08)
    assert recorded["condition"].shape == (5,)
    assert recorded["detail"].shape == recorded["wanted"].shape == (380, 400, 3)
    squared = recorded["relative"].astype(float) ** 2 * recorded["facts"][0] ** 2
    error = np.mean(recorded["wanted"].astype(float) ** 2 * squared[..., None])
    assert error == pytest.approx(recorded["facts"][1], rel=0.02)  # halves are kept
    recorded = train_detail.code(small, large, tune, 0.08)
    assert recorded["condition"].shape == (5,)
    assert recorded["detail"].shape == (380, 400, 3)
    assert recorded["wanted"].shape == (760, 800, 3)
    assert 0 < np.abs(recorded["wanted"].astype(float)).mean() < np.abs(recorded["detail"].astype(float)).mean()


@pytest.mark.parametrize("number", sorted(shipped.SHA256))
def test_a_network_of_the_package_is_the_same_after_a_training_of_no_length(number: int) -> None:
    import train_synthesis

    assert shipped.digest(train_synthesis.whole_numbers(train_synthesis.released(number))) == shipped.SHA256[number]


@pytest.mark.parametrize("number", sorted(shipped.SHA256))
def test_what_is_trained_answers_as_what_the_codec_runs(number: int) -> None:
    import torch
    import train_synthesis

    net, stored = train_synthesis.released(number), shipped.network(number)
    rng = np.random.default_rng(number)
    x = rng.normal(0, 1, (3, 2 * net.margin + 12, 2 * net.margin + 20)).astype(np.float32)
    x[..., x.shape[2] // 2 :] += 4  # edges
    x[:, x.shape[1] // 3 :] *= 0.5
    whole = np.clip(np.rint(x * shipped.INPUT_UNIT), -shipped.INPUT_LIMIT, shipped.INPUT_LIMIT)
    known = facts(0.07, 112)[1:]
    answer = convolve(stored, known, whole) / shipped.OUTPUT_UNIT
    with torch.no_grad():
        trained = net(torch.from_numpy(whole / shipped.INPUT_UNIT)[None], torch.from_numpy(known).float()[None])
    assert (trained[0].numpy() - answer).std() < 0.06 * answer.std()  # whole numbers are rounded to 1/64 step
