"""Turns the linear field's picture into what a small network, trained ahead, finds missing in it.

At scale 1, on the sample lattice, the network sees the field's detail (its value less the smooth level's) in units of
the local step and answers with a residual in the same units. Anywhere else the residual is interpolated from there, so
that the sum is a function of any real position. The network is a few 3×3 convolutions of blocks of samples in whole
numbers that float32 holds exactly: regions, tiles and machines agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from ..priors.synthesis import HIDDEN_UNIT, INPUT_LIMIT, INPUT_UNIT, OUTPUT_UNIT, Layer, Network

__all__ = ["MIDDLE", "MIN_SCALE", "Linear", "add_residual", "facts", "margin", "sample_residual"]

MIN_SCALE = 0.45  # thumbnails stay cheap: nothing is added below (at 0.4 it would be some .3 dB)
MIDDLE = 0.3  # the frequency, as a fraction of Nyquist, at which steps are compared
COLOURS = 3  # the network's; a gray picture has its two chromas zero
BLOCK_ROWS = 32  # of the network's lattice, convolved at a time: bounds the float32 scratch
TILE = 64  # samples per side of the pieces that scattered positions are answered by
POINTS = 2**14  # of them answered at a time: bounds the scratch

# (axes, scale) -> the field's values and its smooth level's, [*n, C] on rotated channels, and the local step [*n, 1]
Evaluate = Callable[[Sequence[np.ndarray], Sequence[float]], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Linear:
    """A linear field and the network that corrects it. shape: of the picture, in samples. step: of the quantiser, at
    frequency MIDDLE. condition: what the network is told about the whole file, [5]."""

    network: Network
    step: float
    condition: np.ndarray
    shape: tuple[int, ...]
    evaluate: Evaluate


def facts(step: float, slope: int) -> np.ndarray:
    """[6] from a quantiser's step at frequency MIDDLE and its slope: the step, then Linear.condition."""
    # in 1/64 octaves: a logarithm's last bit must not matter
    a = np.clip((np.rint(64 * np.log2(step)) / 64 + 4) / 3, -2, 2)
    g = min(slope / 112, 2.0)
    return np.array([step, 1.0, a, a * a, g, a * g])


def margin(network: Network, scale: float) -> float:
    """Samples to either side of a position that its value depends on."""
    return network.margin + network.block + 2 / min(scale, 1.0)


def add_residual(linear: Linear, axes: Sequence[np.ndarray], scale: Sequence[float]) -> np.ndarray:
    """The field's values with the residual added, float64 [*n, C], on the lattice axes[0] × axes[1] of positions in
    samples."""
    taps = [_Taps.at(x, s, n) for x, s, n in zip(axes, scale, linear.shape, strict=True)]
    values, residual = _on_lattice(linear, [t.span for t in taps])
    if any(t.weights is not None for t in taps) or values.shape[:-1] != tuple(map(len, axes)):
        values = linear.evaluate(axes, scale)[0]
    for d, t in enumerate(taps):
        residual = t.interpolate(residual, d)
    values[..., : residual.shape[-1]] += residual
    return values


def sample_residual(linear: Linear, coords: np.ndarray) -> np.ndarray:
    """The residual [N, C or fewer] at scattered positions coords [N, 2] in samples, tile after tile."""
    out = np.zeros((len(coords), COLOURS))
    inside = [np.clip(x, 0, n - 1) for x, n in zip(coords.T, linear.shape, strict=True)]
    tiles = np.stack([x // TILE for x in inside], 1)
    _, which = np.unique(tiles, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    channels = COLOURS
    ends = np.flatnonzero(np.diff(which.ravel()[order])) + 1
    runs = [run for rows in np.split(order, ends) for run in np.split(rows, range(POINTS, len(rows), POINTS))]
    for rows in runs:
        if not len(rows):
            continue
        taps = [_Taps.at(coords[rows, d], 1.0, n) for d, n in enumerate(linear.shape)]
        _, residual = _on_lattice(linear, [t.span for t in taps])
        channels = residual.shape[-1]
        (i, u), (j, v) = (t.dense() for t in taps)
        near = residual[i[:, :, None], j[:, None, :]]  # [N, 4, 4, C]
        out[rows, :channels] = np.einsum("nijc,ni,nj->nc", near, u, v)
    return out[:, :channels]


# --- the pieces, in the order they are used


@dataclass(frozen=True)
class _Taps:
    """Interpolation along one axis: positions weigh T samples each, first … first + T − 1 clamped to the axis.
    weights [n, T]; None where every position is the centre of the sample `first`."""

    first: np.ndarray
    weights: np.ndarray | None
    n: int

    @classmethod
    def at(cls, x: np.ndarray, scale: float, n: int) -> _Taps:
        """Catmull-Rom's cubic (Keys 1981, a = −½), stretched by 1/scale below scale 1 so that nothing aliases."""
        stretch = max(1.0, 1 / scale)
        u = np.clip(x, 0, n) - 0.5
        if stretch == 1 and np.array_equal(u, np.rint(u)):
            return cls(u.astype(np.int64), None, n)
        reach = ceil(2 * stretch)
        first = np.floor(u).astype(np.int64) - reach + 1
        t = np.abs(first[:, None] + np.arange(2 * reach) - u[:, None]) / stretch
        near, far = (1.5 * t - 2.5) * t**2 + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
        weights = np.where(t < 1, near, np.where(t < 2, far, 0))
        return cls(first, weights / weights.sum(1, keepdims=True), n)

    @property
    def span(self) -> tuple[int, int]:
        """(start, stop) of the samples that any position weighs."""
        width = 1 if self.weights is None else self.weights.shape[1]
        return max(0, min(int(self.first.min()), self.n - 1)), min(max(int(self.first.max()) + width, 1), self.n)

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices, relative to the span's start, and weights, both [n, T]."""
        weights = np.ones((len(self.first), 1)) if self.weights is None else self.weights
        index = np.clip(self.first[:, None] + np.arange(weights.shape[1]), 0, self.n - 1)
        return index - self.span[0], weights

    def interpolate(self, values: np.ndarray, axis: int) -> np.ndarray:
        """Values on the span along an axis -> values at the positions."""
        index, weights = self.dense()
        if self.weights is None and np.array_equal(index[:, 0], np.arange(values.shape[axis])):
            return values
        shape = [1] * values.ndim
        shape[axis] = -1
        total = np.zeros(())
        for k in range(weights.shape[1]):
            total = total + values.take(index[:, k], axis) * weights[:, k].reshape(shape)
        return total


def _on_lattice(linear: Linear, spans: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """The field's values [*n, C] and the residual [*n, up to 3] at the samples in spans. Beyond the picture's border
    the network sees its outermost samples again."""
    block, reach = linear.network.block, linear.network.margin
    wide = [(a // block * block - reach, -(-b // block) * block + reach) for a, b in spans]
    there = [(max(a, 0), min(b, n)) for (a, b), n in zip(wide, linear.shape, strict=True)]
    axes = [np.arange(a, b) + 0.5 for a, b in there]
    values, smooth, unit = linear.evaluate(axes, (1.0,) * len(axes))
    colours = COLOURS if values.shape[-1] >= COLOURS else 1
    detail = (values[..., :colours] - smooth[..., :colours]) / unit
    x = np.zeros((COLOURS, *(b - a for a, b in there)), np.float32)
    # not a number: 0, as everywhere
    x[:colours] = np.moveaxis(np.nan_to_num(np.clip(np.rint(detail * INPUT_UNIT), -INPUT_LIMIT, INPUT_LIMIT)), -1, 0)
    x = np.pad(x, [(0, 0), *((t - w, v - u) for (w, v), (t, u) in zip(wide, there, strict=True))], mode="edge")
    y = convolve(linear.network, linear.condition, x)[:colours]
    inner = [slice(a - w - reach, b - w - reach) for (a, b), (w, _) in zip(spans, wide, strict=True)]
    kept = tuple(slice(a - t, b - t) for (a, b), (t, _) in zip(spans, there, strict=True))
    return values[kept], np.moveaxis(y[(slice(None), *inner)], 0, -1).astype(np.float64) / OUTPUT_UNIT * unit[kept]


def convolve(network: Network, condition: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Whole numbers float32 [3, H, W] -> [3, H − 2 margin, W − 2 margin], H and W multiples of the block."""
    b = network.block
    c, h, w = x.shape
    x = x.reshape(c, h // b, b, w // b, b).transpose(0, 2, 4, 1, 3).reshape(c * b * b, h // b, w // b)
    for layer in network.layers:
        bias = np.rint(layer.bias @ condition).astype(np.float32)
        taps = [np.ascontiguousarray(layer.weights[..., k].transpose(0, 2, 1).reshape(len(bias), -1)) for k in range(3)]
        x = _layer(x, taps, bias, layer)
    c, h, w = x.shape
    return x.reshape(c // b**2, b, b, h, w).transpose(0, 3, 1, 4, 2).reshape(c // b**2, h * b, w * b)


def _layer(x: np.ndarray, taps: Sequence[np.ndarray], bias: np.ndarray, layer: Layer) -> np.ndarray:
    """One 3×3 convolution, rounded and clipped: [C, H, W] -> [O, H − 2, W − 2]. Rows lie end to end, three of them on
    top of each other, so that a matrix product per column of the kernel does it; two columns per row are of no use."""
    c, h, w = x.shape
    out = np.empty((len(bias) // (1 + layer.gated), h - 2, w - 2), np.float32)
    for top in range(0, h - 2, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, h - 2 - top)
        n = rows * w
        stacked = np.zeros((3 * c, n + 2), np.float32)
        for j in range(3):
            stacked[j * c : (j + 1) * c, :n] = x[:, top + j : top + j + rows].reshape(c, n)
        y = taps[0] @ stacked[:, :n]
        y += taps[1] @ stacked[:, 1 : n + 1]
        y += taps[2] @ stacked[:, 2:]
        y += bias[:, None]
        y *= np.float32(2.0**-layer.shift)
        y += np.float32(0.5)
        np.floor(y, out=y)
        np.maximum(y, layer.low, out=y)
        np.minimum(y, layer.high, out=y)
        if layer.gated:
            y, factor = y[: len(out)], y[len(out) :]
            y *= factor
            y *= np.float32(1 / HIDDEN_UNIT)
            y += np.float32(0.5)
            np.floor(y, out=y)
        out[:, top : top + rows] = y.reshape(len(out), rows, w)[..., : w - 2]
    return out
