"""The scripts that train networks record what the codec of today gives."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

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
