"""Turns the linear field's picture into what a small network, trained ahead, finds missing in it.

At scale 1, on the sample lattice, the synthesis network sees the field's detail (its value less the smooth level's) in
units of the local step and answers with a residual in the same units. The field's heads take it up from there, so that
the sum is a function of any real position. A second one, of detail, sees that at scale 1 and answers with what it lacks
at twice the samples: for scales above 1, where the heads' frequencies end. Either is a few 3×3 convolutions of blocks
of samples in whole numbers that float32 holds exactly: regions, tiles and machines agree to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..entropy.exact import LOG
from ..priors.synthesis import HIDDEN_UNIT, INPUT_LIMIT, INPUT_UNIT, OUTPUT_UNIT, SURROUNDINGS, Layer, Network
from .bases import Span

__all__ = [
    "DETAIL_UNIT",
    "MIDDLE",
    "MIN_SCALE",
    "colours",
    "enlarged",
    "facts",
    "finer",
    "hidden",
    "last",
    "residual",
    "seen",
    "surroundings",
]

MIN_SCALE = 0.45  # thumbnails stay cheap: nothing is corrected below (at 0.4 it would be some .3 dB)
MIDDLE = 0.3  # the frequency, as a fraction of Nyquist, at which steps are compared
DETAIL_UNIT = 1 / 12  # what a detail network sees and answers is in these, not in steps: edges are as large at any step
COLOURS = 3  # the network's; a gray picture has its two chromas zero
STRIP_ROWS = 128  # of samples at least, where a picture is seen in strips: each sees its margin besides
# Lanczos' kernel of six samples, a quarter of one off, in 1/256: of a sample and those before and after it
TAPS = (2, -17, 69, 229, -34, 7)
BLOCK_ROWS = 32  # of the network's lattice, convolved at a time: bounds the float32 scratch


# samples per axis -> the field's detail there [*n, C], on rotated channels, and the local step [*n, 1]
See = Callable[[Sequence[Span]], tuple[np.ndarray, np.ndarray]]


def facts(step: float, slope: int) -> np.ndarray:
    """[6] from a quantiser's step at frequency MIDDLE and its slope: the step, then what a network is told about the
    whole file, its condition."""
    # in 1/64 octaves: a logarithm's last bit must not matter
    a = np.clip((np.rint(64 * np.log2(step)) / 64 + 4) / 3, -2, 2)
    g = min(slope / 112, 2.0)
    return np.array([step, 1.0, a, a * a, g, a * g])


def seen(network: Network, spans: Sequence[Span], shape: Sequence[int]) -> list[Span]:
    """The samples that the residual at the samples in spans depends on, in a picture of that shape."""
    return [(max(a, 0), min(b, n)) for (a, b), n in zip(_wide(network, spans), shape, strict=True)]


def colours(detail: np.ndarray) -> int:
    """How many channels of detail [*n, C] a network sees and answers for: alpha is none of them."""
    return COLOURS if detail.shape[-1] >= COLOURS else 1


def residual(
    network: Network, condition: np.ndarray, spans: Sequence[Span], shape: Sequence[int], see: See
) -> np.ndarray:
    """The residual, float64 [*n, C or fewer], at the samples in spans of a picture of that shape."""
    there = seen(network, spans, shape)
    detail, unit = see(there)
    answer = _answer(network, condition, spans, shape, detail / unit)
    return answer * unit[tuple(slice(a - t, b - t) for (a, b), (t, _) in zip(spans, there, strict=True))]


def finer(
    network: Network,
    condition: np.ndarray,
    spans: Sequence[Span],
    shape: Sequence[int],
    see: Callable[[Sequence[Span]], np.ndarray],
) -> np.ndarray:
    """The detail at twice the samples of spans, float64 [*2n, C or fewer]: that of the samples, enlarged, and what a
    detail network knows of it. see: as See, without a step."""
    there = seen(network, spans, shape)
    detail = see(there)
    detail = detail[..., : colours(detail)]
    answer = _answer(network, condition, spans, shape, detail / DETAIL_UNIT)
    around = [(a - len(TAPS) // 2, b + len(TAPS) // 2) for a, b in spans]
    inner = tuple(slice(max(a - t, 0), max(b - t, 0)) for (a, b), (t, _) in zip(around, there, strict=True))
    beyond = [(max(t - a, 0), max(b - u, 0)) for (a, b), (t, u) in zip(around, there, strict=True)]
    return enlarged(np.pad(detail[inner], [*beyond, (0, 0)], mode="edge")) + answer * DETAIL_UNIT


def _answer(
    network: Network, condition: np.ndarray, spans: Sequence[Span], shape: Sequence[int], scaled: np.ndarray
) -> np.ndarray:
    """In units of scaled, the detail [*n, C] at the samples `seen` names: float64, of a network with `times` at so many
    times as many samples per axis. Beyond the picture's border it sees the outermost samples again."""
    y = convolve(network, condition, _inputs(network, spans, shape, scaled))[: colours(scaled)]
    times = network.times
    starts = [a % network.block for a, _ in spans]
    inner = [slice(times * s, times * (s + b - a)) for (a, b), s in zip(spans, starts, strict=True)]
    return np.moveaxis(y[(slice(None), *inner)], 0, -1) / np.float64(OUTPUT_UNIT)


def enlarged(x: np.ndarray) -> np.ndarray:
    """Twice the samples of x [h, w, …] by TAPS, without those near the border that would need others beyond it:
    float64 [2 (h − 6), 2 (w − 6), …]."""
    x = x.astype(np.float64, copy=False)
    for _ in range(2):  # columns of the turned picture, then its rows
        x = x.swapaxes(0, 1)
        n = len(x) - 6
        near = [x[k : k + n] for k in range(7)]
        out = np.empty((n, 2, *x.shape[1:]))
        for i, those in enumerate((near[:6], near[:0:-1])):
            out[:, i] = sum(t * s for t, s in zip(TAPS, those, strict=True))
        out /= 256
        x = out.reshape(2 * n, *x.shape[1:])
    return x


def hidden(
    network: Network, condition: np.ndarray, spans: Sequence[Span], shape: Sequence[int], scaled: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer sees at the samples in spans, whole numbers float32 [filters, h + 2, w + 2], by blocks with
    one more on every side, and what the network sees there, [3 · block², h + 2, w + 2]. scaled: the field's detail
    in local steps [*n, C] at the samples `seen` names."""
    return _hidden(network, condition, _inputs(network, spans, shape, scaled))


def last(network: Network, condition: np.ndarray, filters: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """The network's answer, whole numbers float32 [3, H, W] by samples, from what `hidden` gives."""
    layer, b = network.layers[-1], network.block * network.times
    if layer.weights.shape[1] > len(filters):  # a file's deltas look at what the network saw as well
        filters = np.concatenate([filters, inputs])
    y = _layer(filters, condition, layer)
    c, h, w = y.shape
    return y.reshape(c // b**2, b, b, h, w).transpose(0, 3, 1, 4, 2).reshape(c // b**2, h * b, w * b)


def _inputs(network: Network, spans: Sequence[Span], shape: Sequence[int], scaled: np.ndarray) -> np.ndarray:
    """Whole numbers float32 [3, H, W]: what a network sees around the samples in spans, from the detail in local steps
    at the samples `seen` names."""
    wide, there = _wide(network, spans), seen(network, spans, shape)
    x = np.zeros((COLOURS, *scaled.shape[:-1]), np.float32)
    for c in range(colours(scaled)):
        # not a number: 0, as everywhere
        x[c] = np.nan_to_num(np.clip(np.rint(scaled[..., c] * INPUT_UNIT), -INPUT_LIMIT, INPUT_LIMIT))
    around = [(t - w, v - u) for (w, v), (t, u) in zip(wide, there, strict=True)]
    return np.pad(x, [(0, 0), *around], mode="edge")


def _wide(network: Network, spans: Sequence[Span]) -> list[Span]:
    """Whole blocks of samples and their margin, wherever the picture ends."""
    block, margin = network.block, network.margin
    return [(a // block * block - margin, -(-b // block) * block + margin) for a, b in spans]


def convolve(network: Network, condition: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Whole numbers float32 [3, H, W] -> [3, H − 2 margin, W − 2 margin], H and W multiples of the block; of a network
    with `times` so many times as many rows and columns."""
    return last(network, condition, *_hidden(network, condition, x))


def _hidden(network: Network, condition: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers [3, H, W] -> by blocks what the last layer but one gives, and as much of x."""
    b, before = network.block, network.layers[:-1]
    c, h, w = x.shape
    x = x.reshape(c, h // b, b, w // b, b).transpose(0, 2, 4, 1, 3).reshape(c * b * b, h // b, w // b)
    y = x
    if (edge := network.reach) > 0:
        x = x[:, edge:-edge, edge:-edge]
        y = np.concatenate([x, surroundings(y, network.block)])
    for layer in before:
        y = _layer(y, condition, layer)
    edge = len(before)
    return y, x[:, edge:-edge, edge:-edge]


def surroundings(x: np.ndarray, block: int) -> np.ndarray:
    """How busy it is around every block, whole numbers float32 [3, h − 2r, w − 2r], r the largest reach of
    SURROUNDINGS: 8 LOG of the mean size; from whole numbers by blocks [3 · block², h, w]."""
    sizes = np.abs(x).astype(np.int32)
    of = (sizes[: block**2].sum(0), sizes[block**2 :].sum(0))
    most = max(r for _, r in SURROUNDINGS)
    h, w = (n - 2 * most for n in x.shape[1:])
    out = np.empty((len(SURROUNDINGS), h, w), np.float32)
    for o, (colour, r) in zip(out, SURROUNDINGS, strict=True):
        total = np.pad(of[colour].cumsum(0).cumsum(1), [(1, 0), (1, 0)])
        low, high = most - r, most + r + 1
        box = [total[i : i + h, j : j + w] for i in (high, low) for j in (high, low)]
        o[...] = LOG.take((box[0] - box[1] - box[2] + box[3]) // (2 * r + 1) ** 2, mode="clip")
    out *= 8
    return out


def _layer(x: np.ndarray, condition: np.ndarray, layer: Layer) -> np.ndarray:
    """One 3×3 convolution, rounded and clipped: [C, H, W] -> [O, H − 2, W − 2]. Rows lie end to end, three of them on
    top of each other, so that a matrix product per column of the kernel does it; two columns per row are of no use.
    The channels that are seen at the position only come last, and stand below the three rows."""
    c, (_, h, w) = layer.weights.shape[1], x.shape
    bias = np.rint(layer.bias @ condition).astype(np.float32)
    # per column of the kernel a matrix [O, 3 · I]
    taps = [np.ascontiguousarray(layer.weights[..., k].transpose(0, 2, 1).reshape(len(bias), -1)) for k in range(3)]
    taps[1] = np.concatenate([taps[1], layer.centre], 1)
    out = np.empty((len(bias) // (1 + layer.gated), h - 2, w - 2), np.float32)
    for top in range(0, h - 2, BLOCK_ROWS):
        rows = min(BLOCK_ROWS, h - 2 - top)
        n = rows * w
        stacked = np.zeros((taps[1].shape[1], n + 2), np.float32)
        for j in range(3):
            stacked[j * c : (j + 1) * c, :n] = x[:c, top + j : top + j + rows].reshape(c, n)
        stacked[3 * c :, :n] = x[c:, top + 1 : top + 1 + rows].reshape(-1, n)
        y = taps[1] @ stacked[:, 1 : n + 1]
        y += taps[0] @ stacked[: 3 * c, :n]
        y += taps[2] @ stacked[: 3 * c, 2:]
        y += bias[:, None]
        y *= np.float32(2.0**-layer.shift)
        y += np.float32(0.5)
        np.floor(y, out=y)
        np.clip(y, layer.low, layer.high, out=y)
        if layer.gated:
            y, factor = y[: len(out)], y[len(out) :]
            y *= factor
            y *= np.float32(1 / HIDDEN_UNIT)
            y += np.float32(0.5)
            np.floor(y, out=y)
        out[:, top : top + rows] = y.reshape(len(out), rows, w)[..., : w - 2]
    return out
