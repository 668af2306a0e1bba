"""Files written by earlier builds decode for ever: codes exactly, samples within one step.

python tests/test_golden.py --regenerate      # writes tests/golden anew; only when the format changes on purpose
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import inrcodec

GOLDEN = Path(__file__).parent / "golden"
SAMPLES = Path(__file__).parent.parent / "samples"
NAMES = (
    "picture",
    "picture-psnr-zstd",
    "alpha",
    "alpha-equal",
    "deep",
    "sound",
    "volume",
    "ensemble",
    "multihead",
    "segments",
)


def _make(name: str) -> bytes:
    rng = np.random.default_rng(5)
    t = np.arange(6000) / 8000
    tone = np.stack([np.sin(2 * np.pi * 440 * t), np.sin(2 * np.pi * 660 * t) * t], 1).astype(np.float32) * 0.4
    volume = (rng.normal(size=(11, 9, 7)) + np.arange(11)[:, None, None]).astype(np.float32)
    mlp = {"iterations": 60, "seed": 3}
    alpha = np.asarray(Image.open(SAMPLES / "cat-alpha.png"))
    return {
        "picture": lambda: inrcodec.encode(SAMPLES / "tiny.png"),
        "picture-psnr-zstd": lambda: inrcodec.encode(SAMPLES / "tiny.png", tune="psnr", entropy="zstd", grid="5x3"),
        "alpha": lambda: inrcodec.encode(SAMPLES / "cat-alpha.png", quality=50),
        # the same steps for all colours: the second axis of these is not from orange to blue
        "alpha-equal": lambda: inrcodec.encode(alpha[..., [1, 0, 2, 3]], quality=50),
        "deep": lambda: inrcodec.encode(SAMPLES / "cat-16bit.png", quality=90),
        "sound": lambda: inrcodec.encode(tone, sample_rate_hz=8000),
        "volume": lambda: inrcodec.encode(volume, quality=90),
        "ensemble": lambda: inrcodec.encode(SAMPLES / "tiny.png", arch="ensemble", body="siren", grid="4x3", **mlp),
        "segments": lambda: inrcodec.encode(SAMPLES / "tiny.png", partition="segments", grid="3x2", **mlp),
        "multihead": lambda: inrcodec.encode(SAMPLES / "tiny.png", arch="multihead", body="fourier", grid="6x5", **mlp),
    }[name]()


@pytest.mark.parametrize("name", NAMES)
def test_golden_file_decodes_as_it_did_when_it_was_written(name: str) -> None:
    with inrcodec.open(GOLDEN / f"{name}.inr") as file:
        file.verify()  # every code, through the hash in the file
        values = file.decode()
    wanted = np.load(GOLDEN / f"{name}.npy")
    assert (values.dtype, values.shape) == (wanted.dtype, wanted.shape)
    # evaluation is in floating point: machines may round a sample to the neighbouring level
    tolerance = 1 if values.dtype.kind in "iu" else 1e-4
    assert np.abs(values.astype(np.float64) - wanted.astype(np.float64)).max() <= tolerance


def _regenerate() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for name in NAMES:
        data = _make(name)
        (GOLDEN / f"{name}.inr").write_bytes(data)
        np.save(GOLDEN / f"{name}.npy", inrcodec.open(data).decode())
        sys.stdout.write(f"{name}: {len(data)} bytes\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--regenerate"]:
        sys.exit(__doc__)
    _regenerate()
