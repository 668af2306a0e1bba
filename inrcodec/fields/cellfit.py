"""Turns the cells' samples into one trained network per cell (torch).

Where `closed` (by default: width <= 128, fewer features than samples, no start given), by variable projection: at every
step the last layer, linear, is the least-squares optimum for the features before it, and Adam moves these alone. By the
envelope theorem their gradient is that of the loss with the last layer held. It gains 3 dB over plain Adam at equal
steps on small networks, and makes their learning rates uncritical.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..fitting import SERIAL_VALUES, AdamSettings, Keeper, descend, resolve_device, threads_for
from .base import OnStep
from .layers import MlpShape, flatten, forward, initial, unflatten
from .masks import Masks
from .sensitivity import rounding_cost

if TYPE_CHECKING:
    import torch

__all__ = [
    "Cells",
    "UnequalCells",
    "fits_at_once",
    "measure_spreads",
    "solve_last",
    "squared_errors",
    "train",
]

RIDGE = 1e-4  # of the solved layer, relative to features of order 1: keeps its weights small enough to quantise
# float32 values of one layer, or of the weights, per backward pass (16 MB). More than 32 MB in one piece would be
# handed back to the system, and its pages cleared anew, in every step.
CHUNK_VALUES = 2**22
CHUNK_VALUES_GPU = 2**26
PADDING = 1.5  # of cells of different sizes: how much larger than another a cell of one chunk may be
PROBE_CELLS = 64  # cells on which sensitivities are measured
MAX_OCTAVES = 4.0  # from the typical weight's step over its range to a group's; up to 3.3 were measured


@dataclass(frozen=True)
class Cells:
    """Samples by cell, as locate.gather gives them; mask is None where all cells are equally large."""

    values: np.ndarray  # float32 [G, C, N]
    coords: np.ndarray  # float32 [G, D, N]
    mask: np.ndarray | None  # bool [G, N]

    @classmethod
    def of(cls, values: np.ndarray, coords: np.ndarray, mask: np.ndarray) -> Cells:
        return cls(values, coords, None if mask.all() else mask)

    def __getitem__(self, rows: Any) -> Cells:
        return Cells(self.values[rows], self.coords[rows], None if self.mask is None else self.mask[rows])

    def repeated(self, times: int) -> Cells:
        """All cells, again and again: for trainings from several starts at once."""
        return self if times == 1 else self[np.tile(np.arange(len(self.values)), times)]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Cells G, channels C, samples N of the largest cell."""
        groups, channels, n = self.values.shape
        return groups, channels, n

    @property
    def n_values(self) -> int:
        n = self.values[:, 0].size if self.mask is None else int(self.mask.sum())
        return n * self.values.shape[1]

    def chunks(self, limit: int) -> Iterator[tuple[Any, Cells]]:
        """Rows and cells of pieces of at most `limit` padded samples, of one cell at least."""
        groups, _, n = self.shape
        size = max(1, limit // n)
        for a in range(0, groups, size):
            yield slice(a, a + size), self[a : a + size]


@dataclass(frozen=True)
class UnequalCells:
    """Cells of very different sizes: their samples one cell after the other, padded only among cells alike."""

    values: np.ndarray  # float32 [C, samples]
    coords: np.ndarray  # float32 [D, samples]
    sizes: np.ndarray  # int64 [G], samples of each cell, at least 1

    def __getitem__(self, rows: np.ndarray) -> UnequalCells:
        """rows: int [R], which cells."""
        sizes = self.sizes[rows]
        shift = np.repeat(self._starts[rows] - np.cumsum(sizes) + sizes, sizes)
        index = shift + np.arange(len(shift))
        return UnequalCells(self.values[:, index], self.coords[:, index], sizes)

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.sizes), len(self.values), int(self.sizes.max())

    @property
    def n_values(self) -> int:
        return self.values.size

    @property
    def _starts(self) -> np.ndarray:
        return np.cumsum(self.sizes) - self.sizes

    def chunks(self, limit: int) -> Iterator[tuple[Any, Cells]]:
        """As Cells.chunks; the cells of a piece differ in size by a factor of at most PADDING."""
        order = np.argsort(-self.sizes, kind="stable")
        falling, starts, a = self.sizes[order], self._starts, 0
        while a < len(order):
            n = int(falling[a])
            alike = int(np.count_nonzero(falling[a:] * PADDING >= n))
            rows = order[a : a + min(alike, max(1, limit // n))]
            inside = np.arange(n) < self.sizes[rows][:, None]
            index = starts[rows][:, None] + np.minimum(np.arange(n), self.sizes[rows][:, None] - 1)
            values, coords = (np.ascontiguousarray(x[:, index].swapaxes(0, 1)) for x in (self.values, self.coords))
            yield rows, Cells.of(values, coords, inside)
            a += len(rows)


def train(
    shape: MlpShape,
    cells: Cells | UnequalCells,
    *,
    seed: int | Sequence[int],
    iterations: int,
    device: str,
    on_step: OnStep,
    peak: float = 1.0,
    time_limit_s: float | None = None,
    closed: bool | None = None,
    bias: str | None = None,
    init: str = "body",
    adam: AdamSettings | None = None,
    keep: str = "best",
    span: tuple[float, float] | None = None,
    start: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    prunings: Mapping[int, int] | None = None,
    patience: int | None = None,
    keeper: Keeper | None = None,
) -> np.ndarray:
    """Weights float64 [G, P] in flat order. peak: of the PSNR reported, in sample units.

    seed: several are for cells that were `repeated`, each run of them starting as it would alone; the step that is
    kept is then that of the best sum over all.
    closed: whether the last layer is solved rather than trained; None decides by size. bias and adam: None for what
    was found best; init: one of layers.INIT_RULES. keep: the 'best' weights looked at or the 'last'; on_step hears of
    both. Targets are brought from span (None: their own range) to [-1, 1] here, and the last layer is scaled back.

    start [P] or [G, P]: weights from which all cells go on as they were trained: no layer is solved, nothing is
    scaled. mask bool [P]: the weights that are not 0. prunings: step -> weights (biases not counted) that each cell
    keeps from then on, its largest; the 'best' are then the last. patience, keeper: fitting.descend's; what is pruned
    on the way cannot be kept half done.
    """
    import torch

    groups, channels, n = cells.shape
    target = resolve_device(device)
    if closed is None:
        closed = start is None and shape.width < n and shape.width <= 128
    bias = bias or ("1/sqrt(in)" if closed or shape.body != "siren" else "1/sqrt(in*out)")
    adam = adam or default_adam(shape, closed=closed)
    low, high = span or (float(cells.values.min()), float(cells.values.max()))
    middle, half = (high + low) / 2, max((high - low) / 2, 1e-12)
    if start is None:
        seeds = [seed] if isinstance(seed, int) else seed
        starts = [
            initial(shape, groups // len(seeds), generator=torch.Generator().manual_seed(s), bias=bias, init=init)
            for s in seeds
        ]
        full = [torch.cat([p.detach() for p in same]) for same in zip(*starts, strict=True)]
    else:
        middle, half = 0.0, 1.0
        full = [p.expand(groups, *p.shape[1:]) for p in _parameters(shape, np.atleast_2d(start))]
    masks = None
    if mask is not None or prunings:
        masks = Masks(shape, groups, mask, prunings or {}, target)
    limit = CHUNK_VALUES if target.type == "cpu" else CHUNK_VALUES_GPU
    chunks, places = [], []
    for rows, some in cells.chunks(limit // max(shape.width, channels, -(-shape.n_parameters // n))):
        leaves = [p[rows].contiguous().clone().to(target).requires_grad_() for p in _turned(full)]
        chunks.append((leaves, *_tensors(some, target, middle, half)))
        places.append(rows)
    n_values = cells.n_values
    full_size = n_values // channels * max(shape.width, channels)

    def gathered() -> np.ndarray:
        weights = np.empty((groups, shape.n_parameters))
        for rows, (leaves, *_) in zip(places, chunks, strict=True):
            weights[rows] = flatten(_turned(leaves))
        return weights

    def loss() -> torch.Tensor:
        total = torch.zeros((), device=target)
        if masks is not None:
            masks.step(gathered)
        for rows, (leaves, coords, values, valid) in zip(places, chunks, strict=True):
            n_here = coords.shape[2]
            share = 2 / (n_here * channels)
            # a solved layer needs all samples at once; otherwise gradients add up over pieces of them
            piece = n_here if closed else max(1, limit // (len(leaves[0]) * max(shape.width, channels)))
            for a in range(0, n_here, piece):
                u, y = coords[:, :, a : a + piece], values[:, :, a : a + piece]
                inside = None if valid is None else valid[:, :, a : a + piece]
                own = _turned(leaves)
                # per cell a mean over its samples, summed over cells: a cell's gradient is the same in any ensemble
                h = forward(shape, own if masks is None else masks.apply(own, rows), u, hidden=closed)
                with torch.no_grad():
                    if closed:
                        weight, offset = _solve(h, y, inside)
                        own[-2].copy_(weight)
                        own[-1].copy_(offset)
                        error = torch.baddbmm(offset.unsqueeze(2), weight.transpose(1, 2), h).sub_(y)
                    else:
                        error = h - y
                    if inside is not None:
                        error *= inside
                    total += torch.dot(error.view(-1), error.view(-1))
                    gradient = torch.bmm(weight * share, error) if closed else error * share
                h.backward(gradient)  # by hand, which spares autograd five passes over the samples
        return total / n_values

    moved = [p for leaves, *_ in chunks for p in (leaves[:-2] if closed else leaves)]
    scale = (half / peak) ** 2
    with threads_for(full_size, target):
        descend(
        moved, loss, adam=adam, iterations=iterations, stage="fit", on_step=on_step, time_limit_s=time_limit_s,
        psnr_db=lambda mse: float(-10 * np.log10(max(mse * scale, 1e-20))), keep="last" if prunings else keep,
        patience=patience, keeper=None if prunings else keeper,
        )  # fmt: skip
    weights = gathered()
    if start is not None:
        return weights if masks is None else weights * masks.kept
    inner = weights.shape[1] - (shape.width + 1) * channels
    weights[:, inner:] *= half
    weights[:, -channels:] += middle
    return solve_last(shape, weights, cells) if closed else weights


def _turned(parameters: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Matrices [G, in, out] as [G, out, in] and back: so lie their gradients, which autograd otherwise copies."""
    return [p.transpose(1, 2) if p.ndim == 3 else p for p in parameters]


def default_adam(shape: MlpShape, *, closed: bool) -> AdamSettings:
    """Learning rates: the papers' 1e-4 is for width 128 and more; small networks take, and need, larger ones."""
    if closed:
        return AdamSettings(5e-3 * min(1.0, (10 / shape.width) ** 0.5), "cosine")
    return AdamSettings(min(5e-3, 1e-4 * max(1.0, 128 / shape.width)), "constant")


def solve_last(
    shape: MlpShape, weights: np.ndarray, cells: Cells | UnequalCells, *, keep: np.ndarray | None = None
) -> np.ndarray:
    """weights [G, P] with the last layer replaced by the least-squares optimum for the layers before it.

    keep: weights whose last layer the ridge pulls towards, instead of towards zero: what wide networks that were not
    solved in the first place, and have fewer samples than features, need.
    """
    import torch

    groups, channels, _ = cells.shape
    inner = weights.shape[1] - (shape.width + 1) * channels
    result = weights.copy()
    with torch.no_grad():
        for rows, some in cells.chunks(CHUNK_VALUES // max(shape.width, channels)):
            u, y, mask = _tensors(some, torch.device("cpu"), 0.0, 1.0)
            own = _parameters(shape, weights[rows])
            h = forward(shape, own, u, hidden=True)
            if keep is None:
                weight, offset = _solve(h, y, mask)
            else:
                old = _parameters(shape, keep[rows])[-2:]
                y = y - torch.baddbmm(old[1].unsqueeze(2), old[0].transpose(1, 2), h)
                weight, offset = (x + o for x, o in zip(_solve(h, y, mask), old, strict=True))
            flat = torch.cat((weight.flatten(1), offset), dim=1).numpy()
            good = np.isfinite(flat).all(axis=1)
            result[np.arange(groups)[rows][good], inner:] = flat[good]
    return result


def measure_spreads(
    shape: MlpShape,
    weights: np.ndarray,
    cells: Cells | UnequalCells,
    *,
    base: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> tuple[float, ...]:
    """One number per group of parameters, by which all share one base step. base [P]: what a code of 0 stands for,
    where files store differences to it; the last layer is not solved again then. mask bool [P]: what is stored.

    Equal slopes: the step of a group is inversely proportional to the root of the error that rounding one of its
    weights by one step costs, here measured by rounding, with the last layer solved again as `quantize` does. The
    common factor brings the mean log2 of (range of a group / spread) to zero: step 2^(1-bits) then means codes of
    about that many bits.
    """
    groups = np.asarray(shape.groups)
    if mask is not None:
        groups = np.where(mask, groups, -1)
    coded = weights if base is None else weights - base
    probe = np.unique(np.linspace(0, len(weights) - 1, min(PROBE_CELLS, len(weights))).astype(int))
    own, some = weights[probe], cells[probe]
    count = np.bincount(groups[groups >= 0], minlength=2 * len(shape.sizes))
    ranges = np.full(len(count), 1e-6)
    for g in np.flatnonzero(count).tolist():
        ranges[g] = max(float(np.quantile(np.abs(coded[:, groups == g]), 0.999)), 1e-6)
    costs = np.empty(len(ranges))

    def rounded(moved: np.ndarray) -> float:
        return _mse(shape, moved, some)

    def solved(moved: np.ndarray) -> float:
        return _mse(shape, solve_last(shape, moved, some, keep=own), some)

    before = {error: error(own) for error in (rounded, solved)}
    for g, span in enumerate(ranges):
        step = span / 64
        error = solved if base is None and g < len(ranges) - 2 else rounded
        cost = rounding_cost(error, own, groups == g, step, before=before[error])
        costs[g] = max(cost, 1e-12) / (step**2 * max(1, count[g]))
    # octaves of a group's step over its range, about the typical weight's: an outlier must not move the others
    octaves = -np.log2(costs) / 2 - np.log2(ranges)
    share = count / count.sum()
    octaves -= _weighted_median(octaves, share)
    octaves = np.clip(octaves, -MAX_OCTAVES, MAX_OCTAVES)
    octaves -= float(np.sum(share * octaves))
    return tuple(float(s) for s in ranges * np.exp2(octaves))


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values, kind="stable")
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)])


def _parameters(shape: MlpShape, weights: np.ndarray) -> list[torch.Tensor]:
    """Weights [G, P] -> float32 tensors on the CPU as layers.forward takes them."""
    import torch

    return unflatten(shape, torch.from_numpy(weights.astype(np.float32)))


def fits_at_once(shape: MlpShape, cells: Cells, device: str) -> int:
    """How many trainings of these cells pay as one batch: on a CPU only such as wait longer than they work."""
    limit = SERIAL_VALUES if resolve_device(device).type == "cpu" else CHUNK_VALUES_GPU
    return max(1, limit // (cells.values[:, 0].size * max(shape.width, cells.values.shape[1])))


def squared_errors(shape: MlpShape, weights: np.ndarray, cells: Cells | UnequalCells) -> np.ndarray:
    """Per cell the sum of squared errors over its samples and channels, float64 [G], in float32 arithmetic."""
    import torch

    errors = np.empty(len(weights))
    with torch.no_grad():
        for rows, some in cells.chunks(CHUNK_VALUES // max(shape.width, shape.fout)):
            u, y, mask = _tensors(some, torch.device("cpu"), 0.0, 1.0)
            error = (forward(shape, _parameters(shape, weights[rows]), u) - y).square()
            errors[rows] = (error if mask is None else error * mask).double().sum((1, 2)).numpy()
    return errors


def _mse(shape: MlpShape, weights: np.ndarray, cells: Cells | UnequalCells) -> float:
    return float(squared_errors(shape, weights, cells).sum()) / cells.n_values


def _tensors(
    cells: Cells, device: torch.device, middle: float, half: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """(coords [G, D, N], targets [G, C, N] brought to [-1, 1], mask [G, 1, N] or None) on a device."""
    import torch

    u, y = torch.from_numpy(cells.coords), torch.from_numpy((cells.values - np.float32(middle)) / np.float32(half))
    mask = None if cells.mask is None else torch.from_numpy(cells.mask.astype(np.float32)).unsqueeze(1).to(device)
    return u.to(device), y.to(device), mask


def _solve(h: torch.Tensor, y: torch.Tensor, mask: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Ridge regression of y [G, C, N] on features h [G, n, N] and a constant: weight [G, n, C], offset [G, C]."""
    import torch

    n, count = h.shape[1], float(h.shape[2])
    masked = h if mask is None else h * mask
    # bordered by the constant's sums, rather than a row of ones appended to the features: no copy of them
    sums = masked.sum(2, keepdim=True)
    ones = torch.full_like(sums[:, :1], count) if mask is None else mask.sum(2, keepdim=True)
    gram = torch.cat(
        (torch.cat((torch.bmm(masked, h.transpose(1, 2)), sums), 2), torch.cat((sums.transpose(1, 2), ones), 2)), 1
    )
    total = (y if mask is None else y * mask).sum(2)
    cross = torch.cat((torch.bmm(masked, y.transpose(1, 2)), total.unsqueeze(1)), 1)
    diagonal = torch.full((n + 1,), RIDGE, device=h.device)
    diagonal[n] = 1e-7  # the constant is not held back
    solution, _ = torch.linalg.solve_ex(gram / count + torch.diag(diagonal), cross / count)
    return solution[:, :n], solution[:, n]
