"""Turns a signal and one of ENRP's networks into its PSNR, step by step: the training recipe of arXiv 2110.04124.

One network per cell, local coordinates that reach ±1 at the outermost sample centres, Adam at 1e-4 without a schedule,
the whole signal in every step, nothing solved, clipped or quantised. All PSNR here is in ENRP's convention:
10·log10(1/MSE) of a signal in [-1, 1], which is 6.02 dB less than the ordinary one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from experiment import Options, photo, resized
from keep import Ticker, Watch, digest

from inrcodec.cost import ptflops_style
from inrcodec.fields.cellfit import Cells, train
from inrcodec.fields.layers import HIDDEN_OMEGA, MlpShape, evaluate
from inrcodec.fields.locate import corner_coordinates, gather
from inrcodec.fitting import AdamSettings
from inrcodec.grid import Grid

__all__ = [
    "CONVENTION",
    "FEATURES",
    "ORDINARY_DB",
    "SIDE",
    "TABLE_ONE",
    "Fitted",
    "Network",
    "fit",
    "fit_all",
    "fit_kept",
    "near",
    "paper_picture",
    "scaled",
    "threads",
]

SIDE = 128  # of every picture, in pixels
ORDINARY_DB = 20 * math.log10(2)  # ordinary PSNR less ENRP's
CONVENTION = (
    "PSNR in ENRP's convention, 10·log10(1/MSE) of signals in [−1, 1], where nothing else is said; "
    "ordinary PSNR is 6.02 dB more. Nothing is clipped, rounded or quantised.\n\n"
)
FEATURES = 65  # of FF-ENRP: 2 · 65 inputs × 128 units are as many products as 2 × 128 and 128 × 128


@dataclass(frozen=True)
class Network:
    """m cells per axis, each with one network: width units after the first layer, then depth layers of width × width.

    omega: factor of the first sine layer; with Fourier features the standard deviation of the frozen frequencies,
    in radians per unit of the local coordinate.
    """

    name: str
    m: int
    depth: int
    width: int
    body: str = "siren"
    omega: float = HIDDEN_OMEGA

    def shape(self, axes: int, channels: int) -> MlpShape:
        features = FEATURES if self.body == "fourier" else 0
        return MlpShape(axes, self.width, self.depth, channels, self.body, omega=self.omega, features=features)

    @property
    def bias(self) -> str:
        """The repository's two code paths: a list of networks up to m = 2, one batched layer above."""
        return "1/sqrt(in)" if self.m <= 2 else "1/sqrt(in*out)"

    @property
    def init(self) -> str:
        """ReLU networks started from SIREN's ranges; Fourier features are not told, and start from He's."""
        return "body" if self.body == "fourier" else "siren"

    @property
    def flops(self) -> int:
        """Of a picture, as published: biases once per network, but once per cell with Fourier features."""
        if self.body == "fourier":
            return ptflops_style(SIDE**2, self.width, self.depth, fin=2 * FEATURES, bias_copies=self.m**2)
        return ptflops_style(SIDE**2, self.width, self.depth)

    @property
    def n_parameters(self) -> int:
        """Of a picture."""
        return self.m**2 * self.shape(2, 3).n_parameters


TABLE_ONE = (
    Network("SIREN", 1, 3, 256),
    Network("S0", 2, 5, 64),
    Network("S1", 4, 2, 64),
    Network("S2", 8, 1, 128),
    Network("S3", 16, 1, 128),
    Network("S4", 32, 1, 128),
)


@dataclass(frozen=True)
class Fitted:
    """last_db: of the last step's weights, evaluated in float64. best_db: of the best step looked at, every tenth.
    curve: PSNR after so many optimiser steps. seconds: of training."""

    last_db: float
    best_db: float
    curve: dict[int, float]
    seconds: float

    @classmethod
    def load(cls, kept: dict[str, Any]) -> Fitted:
        """From JSON, whose keys are strings."""
        return cls(**kept | {"curve": {int(step): db for step, db in kept["curve"].items()}})


def fit(
    samples: np.ndarray, network: Network, *, steps: int, seed: int, device: str = "auto", bias: str | None = None,
    patience: int | None = None, watch: Watch | None = None, n_cells: int | None = None,
) -> Fitted:  # fmt: skip
    """Train on samples [*shape, C] in [-1, 1]. bias: None for the network's own rule. patience: fitting.descend's.
    n_cells: so many, evenly spread, stand for all; cells share nothing, so that each is trained as among all of them.

    The last loss that a loop of n + 1 steps prints is that of the weights after n: steps = 500 is ENRP's 501.
    """
    axes = samples.ndim - 1
    grid = Grid.uniform(samples.shape[:-1], (network.m,) * axes)
    values, _, mask = gather(samples.astype(np.float32), grid)
    coords = corner_coordinates(grid)
    if n_cells is not None and n_cells < len(values):
        some = spread(len(values), n_cells)
        values, coords, mask = values[some], coords[some], mask[some]
    shape = network.shape(axes, samples.shape[-1])
    watch = watch or Watch(None, Ticker(lambda _: None, ""))
    weights = train(
        shape, Cells.of(values, coords, mask), seed=seed, iterations=steps, device=device, on_step=watch.on_step,
        closed=False, bias=bias or network.bias, init=network.init, adam=AdamSettings(1e-4, "constant"), keep="last",
        span=(-1, 1),
        patience=patience, keeper=watch,
    )  # fmt: skip
    seconds = watch.seconds
    error = (evaluate(shape, weights, coords) - values).transpose(0, 2, 1)[mask]
    curve = {look.step: look.now_db for look in watch.looks}
    return Fitted(-10 * math.log10(float(np.mean(error**2))), watch.looks[-1].best_db, curve, seconds)


def spread(n: int, wanted: int) -> np.ndarray:
    """Indices of `wanted` of n cells in scan order: one drawn from each run of n / wanted, always the same ones."""
    edges = np.arange(wanted + 1) * n // wanted
    return edges[:-1] + np.random.default_rng(0).integers(0, np.diff(edges))


def fit_kept(
    options: Options, samples: np.ndarray, network: Network, *, steps: int, seed: int | None = None,
    bias: str | None = None, patience: int | None = None, n_cells: int | None = None,
) -> Fitted:  # fmt: skip
    """`fit` of the options' seed or another, unless an earlier run of the paper's size has it."""
    seed = options.seed if seed is None else seed
    found = options.store.result(
        f"{network.name}, seed {seed}",
        (network, steps, seed, bias, patience, digest(samples)) + (() if n_cells is None else (n_cells,)),
        lambda watch: fit(samples, network, steps=steps, seed=seed, device=options.device, bias=bias,
                          patience=patience, watch=watch, n_cells=n_cells),
        Fitted.load,
    )  # fmt: skip
    options.say(f"  {network.name}: {found.last_db:.2f} dB after {max(found.curve)} steps, {found.seconds:.0f} s")
    return found


def paper_picture(options: Options) -> tuple[np.ndarray, str, bool]:
    """ENRP's photo at 128 × 128 in [-1, 1], what it is, and whether it is the paper's."""
    pixels, name = photo(options, "papers/enrp-image.jpg")
    return scaled(pixels), f"{name} at {SIDE} × {SIDE}", not name.startswith("scikit")


def scaled(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> float32 [SIDE, SIDE, 3] in [-1, 1]."""
    return resized(pixels, SIDE, SIDE).astype(np.float32) / np.float32(127.5) - 1


def fit_all(
    options: Options, samples: np.ndarray, networks: Sequence[Network], steps: int | dict[str, int]
) -> dict[str, Fitted]:
    """Every network by its name; steps: of all, or by name."""
    found = {}
    for network in networks:
        n = steps if isinstance(steps, int) else steps[network.name]
        found[network.name] = fit_kept(options, samples, network, steps=n)
    return found


def threads() -> str:
    import torch

    n = torch.get_num_threads()
    return f"{n} thread{'s' * (n > 1)}"


def near(value: float, wanted: float, *, within: float = 1.0) -> bool:
    return abs(value - wanted) <= within
