"""Fits an independent small MLP to every segment of a label map (Partition, arXiv 2310.14184), which is stored too."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import FormatError
from ..grid import Grid
from ..segments import from_map, segment
from ..settings import EncodeSettings
from ..signals import SignalMeta
from ..stream import MAX_SEGMENTS, FieldSpec, Quantiser, TensorLayout
from .base import OnStep
from .ensemble import EnsembleField, FittedEnsemble
from .locate import COORDINATE_UNIT, Block, cell_blocks

__all__ = ["SegmentedField", "boxes_of", "labels_at", "local_in_boxes"]

SIREN_OMEGA = 20  # segments are larger than cells, and so are their boxes: finer than default_omega, + 0.5 dB
DEFAULT_CELLS = (3, 3)  # the paper's larger setting: 9 segments
HALF = 2**11  # half the way between two sample centres, where labels are weighed


@dataclass(frozen=True)
class FittedSegments(FittedEnsemble):
    """labels: int32 [H, W]."""

    labels: np.ndarray


class SegmentedField(EnsembleField):
    """Tensors: labels [1, H, W], heads [1, P, K]. Segment k's coordinates are the position in the bounding box of its
    samples. As weights a third array follows, the boxes. The grid is one cell."""

    @classmethod
    def default_cells(cls, signal: SignalMeta, settings: EncodeSettings) -> tuple[int, ...]:
        if signal.kind != "image":
            raise ValueError("--partition segments belongs to pictures")
        rows, columns = (min(m, n) for m, n in zip(DEFAULT_CELLS, signal.shape, strict=True))
        return rows, columns

    @classmethod
    def plan_spec(
        cls, signal: SignalMeta, grid: Grid, settings: EncodeSettings, samples: np.ndarray | None = None
    ) -> FieldSpec:
        """As many segments as the grid has cells, or as the map of the settings."""
        if signal.kind != "image":
            raise ValueError("--partition segments belongs to pictures")
        n = grid.n_cells
        if settings.segments is not None:
            if settings.grid != "auto":
                raise ValueError("--grid and --segments exclude each other: the map says how many segments there are")
            n = int(_map(settings.segments, signal).max()) + 1
        if n > MAX_SEGMENTS:
            raise ValueError(f"--grid: {n:,} segments, limit {MAX_SEGMENTS:,}")
        side = max(1, round((signal.n_samples / n) ** 0.5))
        spec = cls.plan_networks(signal, n, (side, side), settings)
        return replace(spec, segments=n, omega=SIREN_OMEGA if spec.body == "siren" else spec.omega)

    @property
    def layouts(self) -> tuple[TensorLayout, ...]:
        return (
            TensorLayout("labels", "labels", 1, (), self.signal.shape, bands=(self.spec.segments,)),
            TensorLayout(
                "heads", "plain", 1, (self.shape.n_parameters,), (self.spec.segments,), bands=self.shape.groups
            ),
        )

    def fit(self, samples: np.ndarray, settings: EncodeSettings, on_step: OnStep) -> FittedSegments:
        from .cellfit import UnequalCells

        started = time.monotonic()
        n = self.spec.segments
        if settings.segments is not None:
            labels = _map(settings.segments, self.signal)
        else:
            labels = segment(samples[..., : self.signal.channels - self.signal.alpha], n)
        order = np.argsort(labels, axis=None, kind="stable")
        own = labels.ravel()[order]
        centres = np.stack(np.unravel_index(order, labels.shape), axis=1) + 0.5
        local = local_in_boxes(boxes_of(labels, n), own, centres)
        cells = UnequalCells(
            np.ascontiguousarray(samples.reshape(-1, self.signal.channels)[order].T, np.float32),
            np.ascontiguousarray(local.T, np.float32),
            np.bincount(own, minlength=n),
        )
        fitted = self.train(cells, settings, on_step, started)
        return FittedSegments(fitted.weights, fitted.spreads, fitted.cells, labels)

    def quantize(
        self, fitted: FittedEnsemble, quantiser: Quantiser, on_step: OnStep = lambda _: None
    ) -> tuple[np.ndarray, ...]:
        assert isinstance(fitted, FittedSegments)
        return fitted.labels[None], *super().quantize(fitted, quantiser)

    def dequantize(self, codes: Sequence[np.ndarray], quantiser: Quantiser) -> tuple[np.ndarray, ...]:
        labels = np.asarray(codes[0][0])
        return labels, *super().dequantize(codes, quantiser), boxes_of(labels, self.spec.segments)

    def check(self, codes: Sequence[np.ndarray]) -> None:
        low, high = int(codes[0].min()), int(codes[0].max())
        if low < 0 or high >= self.spec.segments:
            raise FormatError(f"label map: labels {low} to {high}, wanted 0 to {self.spec.segments - 1}")

    def cells_for(self, axes: Sequence[np.ndarray], scale: Sequence[float]) -> tuple[tuple[int, int], ...]:
        """All of them: which segments a region touches is known from the labels only."""
        return ((0, self.spec.segments),)

    def render(self, weights: Sequence[np.ndarray], axes: Sequence[np.ndarray], scale: Sequence[float]) -> np.ndarray:
        mesh = np.meshgrid(*axes, indexing="ij")
        values = self.sample(weights, np.stack([m.ravel() for m in mesh], axis=1))
        return values.reshape(*mesh[0].shape, self.signal.channels)

    def sample(self, weights: Sequence[np.ndarray], coords: np.ndarray) -> np.ndarray:
        labels, heads, boxes = weights
        return self._evaluate((heads,), self._blocks(labels, boxes, coords), len(coords))

    def _blocks(self, labels: np.ndarray, boxes: np.ndarray, coords: np.ndarray) -> Iterator[Block]:
        own = labels_at(labels, coords)
        return cell_blocks(own, local_in_boxes(boxes, own, coords), self.spec.segments, self._positions)


def _map(segments: np.ndarray, signal: SignalMeta) -> np.ndarray:
    """Labels of the settings' map. Raises ValueError where it is not as large as the picture."""
    if np.shape(segments)[:2] != signal.shape:
        found, wanted = ("x".join(map(str, shape[::-1])) for shape in (np.shape(segments)[:2], signal.shape))
        raise ValueError(f"--segments: map of {found} pixels, wanted {wanted} as the picture")
    return from_map(segments)


def boxes_of(labels: np.ndarray, n: int) -> np.ndarray:
    """First sample and one past the last of every segment on each axis, int64 [n, D, 2]; the whole axis for a segment
    without samples (no encoder writes one)."""
    from scipy.ndimage import find_objects

    whole = [(0, extent) for extent in labels.shape]
    found = find_objects(labels + 1, max_label=n)
    return np.array([whole if box is None else [(s.start, s.stop) for s in box] for box in found], np.int64)


def local_in_boxes(boxes: np.ndarray, own: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Positions x [N, D] in segments own [N] -> local coordinates 2 (x − a) / (b − a) − 1, float64 [N, D]."""
    start, stop = boxes[own, :, 0], boxes[own, :, 1]
    u = 2 * (np.asarray(x, np.float64) - start) / (stop - start) - 1
    return np.rint(u / COORDINATE_UNIT) * COORDINATE_UNIT


def labels_at(labels: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """Labels [N] at positions coords [N, 2] in sample units: of the four sample centres around, the label with the
    largest weight, the lowest of equals; beyond the outermost centres as at them.

    Weights are bilinear in a fraction that leaves a centre faster than linearly, ½ ± ½ (1 − 2f)²: at twice the size the
    nearest centre alone (.39) no longer decides, which rounds off stairs. In whole numbers, so that all machines agree.
    """
    low, high, shares = [], [], []
    for axis, n in enumerate(labels.shape):
        x = np.clip(coords[:, axis] - 0.5, 0, n - 1)
        i = x.astype(np.int64)
        e = HALF - np.rint((x - i) * 2 * HALF).astype(np.int64)
        low.append(i)
        high.append(np.minimum(i + 1, n - 1))
        shares.append((HALF**2 + e * abs(e), HALF**2 - e * abs(e)))
    result = labels[low[0], low[1]]
    near = np.stack([labels[y, x] for y in (low[0], high[0]) for x in (low[1], high[1])])
    mixed = np.flatnonzero((near != result).any(0))
    near = near[:, mixed]
    weights = np.stack([v[mixed] * h[mixed] for v in shares[0] for h in shares[1]])
    votes = np.stack([np.where(near == label, weights, 0).sum(0) for label in near])
    result[mixed] = np.where(votes == votes.max(0), near, MAX_SEGMENTS).min(0)
    return result
