"""Fits ENRP's S4 (32 × 32 SIRENs of width 128, depth 1) to a picture at 128 × 128 and prints PSNR and seconds.

usage: python benchmarks/enrp_capacity.py IMAGE [--steps 500] [--grid 32] [--closed] [--device auto] [--corners]

Before quantisation, as in the paper's Table I (83.08 dB there, in its convention). --closed solves last layers
exactly instead of training them; --corners uses the paper's coordinates linspace(-1, 1) instead of sample centres.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
from common import Run
from PIL import Image

from inrcodec.fields.cellfit import Cells, train
from inrcodec.fields.layers import MlpShape, evaluate
from inrcodec.fields.locate import gather
from inrcodec.fitting import AdamSettings
from inrcodec.grid import Grid

SIDE = 128
PAPER_DB = 20 * math.log10(2)  # the paper's signal lies in [-1, 1], its peak counts 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--grid", type=int, default=32)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--closed", action="store_true")
    parser.add_argument("--corners", action="store_true")
    asked = parser.parse_args()

    psnr, seconds, parameters = capacity(
        asked.image, grid=asked.grid, width=asked.width, depth=asked.depth, steps=asked.steps, device=asked.device,
        seed=asked.seed, closed=asked.closed, corners=asked.corners,
    )  # fmt: skip
    print(
        f"M={asked.grid} width={asked.width} depth={asked.depth} steps={asked.steps} parameters={parameters:,}: "
        f"{psnr:.2f} dB (signal in [0, 1]), {psnr - PAPER_DB:.2f} dB as the paper counts, {seconds:.1f} s"
    )


def capacity(
    image: str | Path, *, grid: int = 32, width: int = 128, depth: int = 1, steps: int = 500, device: str = "auto",
    seed: int = 0, closed: bool = False, corners: bool = False,
) -> tuple[float, float, int]:  # fmt: skip
    """PSNR in dB of a signal in [0, 1] before quantisation and clipping, seconds of training, parameters."""
    with Image.open(image) as picture:
        small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    samples = np.asarray(small, np.float32) / 255
    cells = Grid.uniform((SIDE, SIDE), (grid, grid))
    values, coords, mask = gather(samples, cells)
    if corners:  # the outermost sample centres at ±1 instead of ±(1 - 1/M)
        coords = coords * np.float32(cells.largest[0] / max(cells.largest[0] - 1, 1))
    shape = MlpShape(2, width, depth, 3, "siren")
    started = time.perf_counter()
    weights = train(
        shape, Cells.of(values, coords, mask), seed=seed, iterations=steps, device=device,
        on_step=lambda progress: None, closed=closed, bias="1/sqrt(in*out)",
        adam=None if closed else AdamSettings(1e-4, "constant"),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    error = evaluate(shape, weights, coords) - values
    return -10 * math.log10(float(np.mean(error**2))), seconds, shape.n_parameters * cells.n_cells


def capacity_section(run: Run) -> str:
    """The ensemble paper's S4 on its picture."""
    if run.capacity is None:
        return "No picture was given (`make bench CAPACITY=picture.jpg`).\n"
    psnr, seconds, parameters = capacity(run.capacity)
    return (
        f"Ensemble of SIRENs, 32 × 32 cells, width 128, depth 1, {parameters:,} parameters, on {run.capacity.name} at "
        f"128 × 128, 500 Adam steps of 1e-4, sample-centre coordinates, before quantisation: **{psnr:.2f} dB** (signal "
        f"in [0, 1]), {psnr - PAPER_DB:.2f} dB as the paper counts (83.08 there), {seconds:.0f} s.\n"
    )


if __name__ == "__main__":
    main()
