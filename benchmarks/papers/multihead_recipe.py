"""Turns a grey picture and a network of MH-ReLU, or one of its baselines, into PSNR: the recipe of arXiv 2110.03448.

The picture at half size is trained on, the picture at full size is the test. Cells share one joint grid of coordinates,
linspace(-1, 1) at either size, as in the paper's code: the outermost pixel centres of a cell lie at ±1 at both, which
puts the test's pixels up to half a pixel off. PSNR is the ordinary one of greys in [0, 1], nothing clipped or rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from experiment import Options, photo
from keep import Ticker, Watch, digest
from PIL import Image

from inrcodec.fields.cellfit import Cells, train
from inrcodec.fields.layers import MlpShape, evaluate
from inrcodec.fields.locate import corner_coordinates, gather
from inrcodec.fields.sparse import PAPER_ADAM, evaluate_sparse, supports, train_sparse
from inrcodec.grid import Grid

__all__ = [
    "COMPARISON",
    "GENERALISATION",
    "SPECTRAL",
    "Baseline",
    "Fitted",
    "Heads",
    "camera",
    "fit",
    "fit_kept",
    "grey_sample",
    "halved",
    "match",
    "match_baseline",
    "perlin",
    "psnr_db",
    "resized_bilinear",
]

ROOT = Path(__file__).resolve().parents[2]
GREY = np.array([0.299, 0.587, 0.114])
STAND_INS = ("astronaut", "chelsea", "coffee")  # of scikit-image, for samples 1 to 3
LAYERS = 4  # dense ReLU layers of the body; dense hidden layers of the baselines
FOURIER_FREQUENCIES, FOURIER_OMEGA = 128, 10.0  # cos and sin of 10 · v B, without 2 pi


@dataclass(frozen=True)
class Heads:
    """side × side heads, each of which reads `connections` of the body's `width` units; bias: has an offset."""

    side: int
    width: int
    connections: int
    bias: bool

    @property
    def heads(self) -> int:
        return self.side**2

    @property
    def shape(self) -> MlpShape:
        return MlpShape(2, self.width, LAYERS - 1, 0, "relu")

    @property
    def n_parameters(self) -> int:
        return self.shape.n_parameters + (self.connections + self.bias) * self.heads

    def flops(self, pixels: int) -> int:
        """Of a picture of so many pixels, by the paper's code: the body runs once for the pixels of all heads."""
        heads = (2 * self.connections + self.bias) * self.heads
        return (2 * self.shape.macs + LAYERS * self.width + heads) * pixels // self.heads


@dataclass(frozen=True)
class Baseline:
    """One network for the whole picture. body: siren | fourier."""

    body: str
    width: int

    @property
    def shape(self) -> MlpShape:
        if self.body == "siren":
            return MlpShape(2, self.width, LAYERS - 1, 1, "siren")
        return MlpShape(2, self.width, LAYERS - 1, 1, "fourier", omega=FOURIER_OMEGA, features=FOURIER_FREQUENCIES)

    @property
    def n_parameters(self) -> int:
        return self.shape.n_parameters

    def flops(self, pixels: int) -> int:
        """By the same formula with one head; the frozen frequencies are not counted."""
        trained = sum(i * o for i, o in self.shape.sizes)
        return (2 * trained + LAYERS * self.width + 1) * pixels


COMPARISON = Heads(64, 256, 256, bias=True)
GENERALISATION = Heads(256, 256, 32, bias=False)
SPECTRAL = Heads(64, 128, 16, bias=False)  # the stand-in's, for pictures of 64 × 64


def match(side: int, base: Heads) -> Heads:
    """The network of side × side heads that has the parameters of `base`, as the paper's code looks for it: connections
    are added as far as they fit, then one unit, and so on; never fewer units or connections than base."""
    found = replace(base, side=side)
    budget = base.n_parameters
    while True:
        room = (budget - found.n_parameters) // found.heads
        found = replace(found, connections=min(found.width, found.connections + max(0, room)))
        wider = replace(found, width=found.width + 1)
        if wider.n_parameters > budget:
            return found
        found = wider


def match_baseline(body: str, budget: int) -> Baseline:
    """The widest baseline of at most so many parameters."""
    width = 1
    while Baseline(body, width + 1).n_parameters <= budget:
        width += 1
    return Baseline(body, width)


@dataclass(frozen=True)
class Fitted:
    """PSNR in dB of the last step's weights on the picture trained on and, where there is one, on the test's;
    best_db: of the best tenth step, on the picture trained on. seconds: of training."""

    train_db: float
    test_db: float
    best_db: float
    seconds: float

    @classmethod
    def load(cls, kept: dict[str, Any]) -> Fitted:
        return cls(**kept)


def fit(
    net: Heads | Baseline, picture: np.ndarray, test: np.ndarray | None, *, epochs: int, seed: int, device: str,
    watch: Watch | None = None,
) -> Fitted:  # fmt: skip
    """Train on picture [M, M] for so many steps, each of the whole picture; test: [2M, 2M] or None."""
    side = net.side if isinstance(net, Heads) else 1
    values, coords = _cells(picture, side)
    watch = watch or Watch(None, Ticker(lambda _: None, ""))
    if isinstance(net, Heads):
        support = supports(net.heads, net.width, net.connections, seed)
        fitted = train_sparse(
            net.shape, support, values, coords, bias=net.bias, seed=seed, iterations=epochs, device=device,
            on_step=watch.on_step, keep="last", keeper=watch,
        )  # fmt: skip
        seconds = watch.seconds

        def render(at: np.ndarray) -> np.ndarray:
            return evaluate_sparse(net.shape, fitted, support, at)

    else:
        weights = train(
            net.shape, Cells(values[:, None], coords[None], None), seed=seed, iterations=epochs, device=device,
            on_step=watch.on_step, closed=False, bias="zero", init="body" if net.body == "siren" else "glorot",
            adam=PAPER_ADAM, keep="last", span=(-1, 1), keeper=watch,
        )  # fmt: skip
        seconds = watch.seconds

        def render(at: np.ndarray) -> np.ndarray:
            return evaluate(net.shape, weights, at[None])[0]

    train_db, best = psnr_db(render(coords), values), watch.looks[-1].best_db
    if test is None:
        return Fitted(train_db, np.nan, best, seconds)
    fine, at = _cells(test, side)
    return Fitted(train_db, psnr_db(render(at), fine), best, seconds)


def fit_kept(
    options: Options, net: Heads | Baseline, picture: np.ndarray, test: np.ndarray | None, *, epochs: int, seed: int
) -> Fitted:
    """`fit`, unless an earlier run of the paper's size has it."""
    return options.store.result(
        f"{net}, {epochs} epochs, seed {seed}",
        (net, epochs, seed, digest(picture, np.zeros(0) if test is None else test)),
        lambda watch: fit(net, picture, test, epochs=epochs, seed=seed, device=options.device, watch=watch),
        Fitted.load,
    )


def _cells(picture: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """[M, M] -> values float32 [side², N] by cell, and the joint coordinates float32 [2, N]."""
    grid = Grid.uniform(picture.shape, (side, side))
    values, _, mask = gather(picture[..., None].astype(np.float32), grid)
    assert mask.all(), "sizes here are whole multiples of the cells"
    return values[:, 0], corner_coordinates(grid)[0]


def psnr_db(found: np.ndarray, wanted: np.ndarray) -> float:
    """Ordinary PSNR of greys in [0, 1], in dB; nothing clipped."""
    return float(-10 * np.log10(np.mean((found - wanted.astype(np.float64)) ** 2)))


def grey_sample(options: Options, number: int) -> tuple[np.ndarray, str, bool]:
    """Sample 1 to 3 of the paper as uint8 [H, W], what it is, and whether it is the paper's."""
    rgb, name = photo(options, f"papers/mh-relu-sample{number}.jpg", stand_in=STAND_INS[number - 1])
    return np.rint(rgb @ GREY).astype(np.uint8), name, not name.startswith("scikit")


def camera() -> np.ndarray:
    """uint8 [512, 512]: the picture of this name in samples/, a look-alike of the historic one."""
    with Image.open(ROOT / "samples" / "camera.png") as picture:
        return np.asarray(picture.convert("L"))


def halved(pixels: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [H, W] -> the picture trained on [side / 2, side / 2], the mean of 2 × 2, and the test's [side, side], both
    in [0, 1] and 8 bits as in the paper's code."""
    major = resized_bilinear(pixels.astype(np.float64), side, side)
    major = np.rint(major)
    minor = np.floor(major.reshape(side // 2, 2, side // 2, 2).mean(axis=(1, 3)) + 0.5)
    return minor / 255, major / 255


def resized_bilinear(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """cv2.resize of [H, W] as it is without arguments: bilinear, half-pixel centres, no antialias, ends repeated."""
    for axis, size in enumerate((height, width)):
        n = pixels.shape[axis]
        x = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
        low = np.minimum(x.astype(int), max(n - 2, 0))
        share = (x - low).reshape(-1, 1) if axis == 0 else x - low
        first, second = pixels.take(low, axis), pixels.take(np.minimum(low + 1, n - 1), axis)
        pixels = first + share * (second - first)
    return pixels


def perlin(side: int, octave: int, seed: int) -> np.ndarray:
    """Perlin noise of octave × octave lattice cells, float64 [side, side] in [0, 1]: gradients are unit vectors of
    random angles, the fade is 6t^5 - 15t^4 + 10t^3. octave divides side, and is less."""
    angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, (octave + 1, octave + 1))
    gradients = np.stack((np.cos(angles), np.sin(angles)))
    cell, t = np.divmod(np.arange(side) * octave, side)
    t = t / side
    y, x = t[:, None], t[None, :]

    def corner(dy: int, dx: int) -> np.ndarray:
        g = gradients[:, cell[:, None] + dy, cell[None, :] + dx]
        return g[0] * (y - dy) + g[1] * (x - dx)

    fy, fx = (v**3 * (6 * v**2 - 15 * v + 10) for v in (y, x))
    top = corner(0, 0) * (1 - fx) + corner(0, 1) * fx
    bottom = corner(1, 0) * (1 - fx) + corner(1, 1) * fx
    noise = np.sqrt(2) * (top * (1 - fy) + bottom * fy)
    return (noise - noise.min()) / (noise.max() - noise.min())
