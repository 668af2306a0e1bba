"""The contract every field family keeps: fit samples, give integers, turn integers back into a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..grid import Grid
from ..settings import EncodeSettings
from ..signals import SignalMeta
from ..stream import FieldSpec, Quantiser, TensorLayout

__all__ = ["Field", "OnStep", "Progress", "Weights", "cells_at"]

Weights = Any  # what a family's `dequantize` gives and its `render` takes: its own matter, as what `fit` gives is


@dataclass(frozen=True)
class Progress:
    """One report of a running encode. psnr_db, n_bytes: of the best so far; now_db: of this very step, where it is
    known. worth: of the synthesis network, in bits that what it takes off the error would cost. Of the first file,
    which took so many trials (step) and seconds: way, its PSNR before each look at that network. Where a stage of the
    effort ladder is over: gain, the share of the bytes that it saved at equal quality, None where nothing was tried;
    choice: what it chose; cut: whether there was no time for all that it tries."""

    stage: str
    step: int
    n_steps: int
    psnr_db: float | None = None
    now_db: float | None = None
    n_bytes: int | None = None
    worth: float | None = None
    way: tuple[float, ...] = ()
    gain: float | None = None
    choice: str = ""
    cut: bool = False
    seconds: float = 0.0


OnStep = Callable[[Progress], None]


class Field(ABC):
    """One function family on one grid. Codes are int32 tensors [C, *frequencies, *cells] as `layouts` says; weights
    are what they stand for. All methods leave their inputs as they were."""

    # Below this many output samples per input sample `render` would alias; the renderer then evaluates at a
    # multiple of the scale, at or above it, and averages.
    min_scale: float = 1.0

    def __init__(self, spec: FieldSpec, signal: SignalMeta, grid: Grid) -> None:
        self.spec, self.signal, self.grid = spec, signal, grid

    def distortion(self, fitted: Any, quantiser: Quantiser, error: np.ndarray) -> float:
        """Squared error, summed, in units of squared local steps: what the family spends its bits for. error: of
        samples as they are fitted [*shape, C]. For families that have stages (see stages.py)."""
        raise NotImplementedError

    @classmethod
    @abstractmethod
    def default_cells(cls, signal: SignalMeta, settings: EncodeSettings) -> tuple[int, ...]:
        """Cells per axis where no --grid is given."""

    @classmethod
    @abstractmethod
    def plan_spec(
        cls, signal: SignalMeta, grid: Grid, settings: EncodeSettings, samples: np.ndarray | None = None
    ) -> FieldSpec:
        """The spec these settings ask for on this signal. samples [*shape, C]: what may be fitted to them beforehand
        is (the colour rotation), without them it takes its default. Raises ValueError for sizes out of range."""

    @property
    @abstractmethod
    def layouts(self) -> tuple[TensorLayout, ...]:
        """The tensors of codes; shared ones first, the heads (what each cell stores) last."""

    @abstractmethod
    def fit(self, samples: np.ndarray, settings: EncodeSettings, on_step: OnStep) -> Any:
        """Fit float32 samples [*shape, C]. The result is opaque, and reused for many quantisers."""

    @abstractmethod
    def initial_step(self, fitted: Any, settings: EncodeSettings) -> float:
        """The base step that settings.quality (or settings.bits) asks for; a rate search starts here."""

    @abstractmethod
    def quantiser(self, fitted: Any, step: float) -> Quantiser:
        """The quantiser at a base step. Larger steps give smaller files; cosine: in sample units."""

    @abstractmethod
    def quantize(self, fitted: Any, quantiser: Quantiser, on_step: OnStep = lambda _: None) -> tuple[np.ndarray, ...]:
        """Integer codes, int32, one array per layout. on_step: of families for which it takes long."""

    @abstractmethod
    def dequantize(self, codes: Sequence[np.ndarray], quantiser: Quantiser) -> Weights:
        """Weights from codes."""

    def correct(self, weights: Weights, axes: Sequence[np.ndarray], scale: Sequence[float]) -> Weights:
        """Weights as `render` and `sample` take them, good for positions no further out than axes, at the scale of the
        output: what a function depends on of all its weights together is worked out here, once. Weights that come
        from here stay as they are. Where axes are centres of samples and nothing else, and scale is 1, weights may be
        good for `render` at those alone."""
        return weights

    def check(self, codes: Sequence[np.ndarray]) -> None:  # noqa: B027 (most fields take any codes)
        """Raises FormatError for decoded codes that no encoder writes."""

    @abstractmethod
    def render(self, weights: Weights, axes: Sequence[np.ndarray], scale: Sequence[float]) -> np.ndarray:
        """Values float64 [len(axes[0]), …, C] at the lattice axes[0] × axes[1] × …, positions in sample units.

        scale: per axis, output samples per input sample; below 1, content the output cannot hold is removed.
        """

    @abstractmethod
    def sample(self, weights: Weights, coords: np.ndarray) -> np.ndarray:
        """Values float64 [N, C] at scattered positions coords [N, D] in sample units."""

    def cells_for(self, axes: Sequence[np.ndarray], scale: Sequence[float]) -> tuple[tuple[int, int], ...]:
        """Per axis (start, stop) of the cells that `render` needs for these positions."""
        return cells_at(self.grid, axes)


def cells_at(grid: Grid, axes: Sequence[np.ndarray]) -> tuple[tuple[int, int], ...]:
    """Per axis (start, stop) of the cells that hold these positions; beyond the ends the outermost do."""
    spans = []
    for borders, x in zip(grid.borders, axes, strict=True):
        first = int(np.searchsorted(borders, x.min(), side="right")) - 1
        last = int(np.searchsorted(borders, x.max(), side="right")) - 1
        m = len(borders) - 1
        spans.append((min(max(first, 0), m - 1), min(max(last, 0), m - 1) + 1))
    return tuple(spans)
