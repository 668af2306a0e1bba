"""Fits ENRP's S4 (32 × 32 SIRENs of width 128, depth 1) to a picture at 128 × 128 and prints PSNR and seconds.

usage: python benchmarks/enrp_capacity.py IMAGE [--steps 500] [--grid 32] [--closed] [--device auto] [--corners]

Before quantisation, as in the paper's Table I (83.08 dB there, in its convention). --closed solves last layers
exactly instead of training them; --corners uses the paper's coordinates linspace(-1, 1) instead of sample centres.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
from PIL import Image

from inrcodec.fields.cellfit import Cells, train
from inrcodec.fields.layers import MlpShape, evaluate
from inrcodec.fields.locate import gather
from inrcodec.fitting import AdamSettings
from inrcodec.grid import Grid

SIDE = 128


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

    with Image.open(asked.image) as picture:
        small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    samples = np.asarray(small, np.float32) / 255
    grid = Grid.uniform((SIDE, SIDE), (asked.grid, asked.grid))
    values, coords, mask = gather(samples, grid)
    if asked.corners:  # the outermost sample centres at ±1 instead of ±(1 - 1/M)
        coords = coords * np.float32(grid.largest[0] / max(grid.largest[0] - 1, 1))
    shape = MlpShape(2, asked.width, asked.depth, 3, "siren")
    started = time.perf_counter()
    weights = train(
        shape, Cells.of(values, coords, mask), seed=asked.seed, iterations=asked.steps, device=asked.device,
        on_step=lambda progress: None, closed=asked.closed, bias="1/sqrt(in*out)",
        adam=None if asked.closed else AdamSettings(1e-4, "constant"),
    )  # fmt: skip
    seconds = time.perf_counter() - started
    error = evaluate(shape, weights, coords) - values
    psnr = -10 * math.log10(float(np.mean(error**2)))
    print(
        f"M={asked.grid} width={asked.width} depth={asked.depth} steps={asked.steps} "
        f"parameters={shape.n_parameters * grid.n_cells:,}: "
        f"{psnr:.2f} dB (signal in [0, 1]), {psnr - 20 * math.log10(2):.2f} dB as the paper counts, {seconds:.1f} s"
    )


if __name__ == "__main__":
    main()
