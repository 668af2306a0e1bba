"""Fits an ensemble of SIRENs to a picture at 128 × 128 as ENRP does, and prints PSNR and seconds.

usage: python benchmarks/enrp_capacity.py IMAGE [--steps 500] [--grid 32] [--width 128] [--depth 1] [--device auto]

Before quantisation, as in the paper's Table I, whose S4 (83.08 dB, in its convention) is what it fits without options.
benchmarks/papers/run.py enrp-table1 has the whole table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent / "papers"))

import numpy as np
from common import Run
from enrp_recipe import ORDINARY_DB, SIDE, TABLE_ONE, Network, fit, scaled
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--grid", type=int, default=32)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    network = Network("asked", asked.grid, asked.depth, asked.width)
    found = fit(picture(asked.image), network, steps=asked.steps, seed=asked.seed, device=asked.device)
    print(
        f"M={asked.grid} width={asked.width} depth={asked.depth} steps={asked.steps} "
        f"parameters={network.n_parameters:,}: {found.last_db + ORDINARY_DB:.2f} dB (signal in [0, 1]), "
        f"{found.last_db:.2f} dB as the paper counts, {found.seconds:.1f} s"
    )


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return scaled(np.asarray(opened.convert("RGB")))


def capacity_section(run: Run) -> str:
    """The ensemble paper's S4 on its picture."""
    if run.capacity is None:
        return "No picture was given (`make bench CAPACITY=picture.jpg`).\n"
    network = TABLE_ONE[-1]
    found = fit(picture(run.capacity), network, steps=500, seed=0)
    return (
        f"Ensemble of SIRENs, {network.m} × {network.m} cells, width {network.width}, depth {network.depth}, "
        f"{network.n_parameters:,} parameters, on {run.capacity.name} at {SIDE} × {SIDE}, 500 Adam steps of 1e-4, "
        f"before quantisation: **{found.last_db + ORDINARY_DB:.2f} dB** (signal in [0, 1]), {found.last_db:.2f} dB as "
        f"the paper counts (83.08 there), {found.seconds:.0f} s.\n"
    )


if __name__ == "__main__":
    main()
