"""Fits every cell from a prior in few steps, and stores how its weights differ (Meta-SparseINR, arXiv 2110.14678)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..grid import Grid
from ..priors.prior import Prior
from ..settings import EncodeSettings
from ..signals import SignalMeta
from ..stream import FieldSpec, Quantiser, TensorLayout
from .base import OnStep
from .budget import check_codes
from .ensemble import EnsembleField, FittedEnsemble, round_codes
from .layers import MlpShape, forward, unflatten

if TYPE_CHECKING:
    import torch

    from .cellfit import Cells

__all__ = ["AdaptedField", "first_steps"]

BITS_AT_75 = 6.0  # of a difference before entropy coding, at the default quality
QUALITY_PER_BIT = 15.0  # points of quality
STEP_VALUES = 2**22  # of one layer, or of the weights, in a step of learned rates


class AdaptedField(EnsembleField):
    """An ensemble whose codes are, at the places the prior keeps, differences to its weights; elsewhere weights are 0.

    Raises ValueError where spec and signal are not what the prior is for.
    """

    def __init__(self, spec: FieldSpec, signal: SignalMeta, grid: Grid, prior: Prior) -> None:
        super().__init__(spec, signal, grid)
        _check_signal(prior, signal)
        if spec != _spec(prior):
            raise ValueError("network or number of weights kept that its prior does not have")
        self.prior = prior
        self._kept = np.flatnonzero(prior.mask)
        self._groups = self._groups[self._kept]

    @classmethod
    def default_cells(cls, signal: SignalMeta, settings: EncodeSettings) -> tuple[int, ...]:
        """Cells of the size that the prior was trained for, as nearly as there are."""
        prior = _given(settings)
        _check_signal(prior, signal)
        return tuple(max(1, round(n / m)) for n, m in zip(signal.shape, prior.patch, strict=True))

    @classmethod
    def plan_spec(
        cls, signal: SignalMeta, grid: Grid, settings: EncodeSettings, samples: np.ndarray | None = None
    ) -> FieldSpec:
        """The prior's own. Raises ValueError for options that ask for something else."""
        prior = _given(settings)
        _check_signal(prior, signal)
        for name in ("body", "width", "depth"):
            wanted, found = getattr(settings, name), getattr(prior, name)
            if wanted not in (None, found):
                raise ValueError(f"--{name} {wanted}: the prior has {found}")
        check_codes(prior.kept * grid.n_cells)
        return _spec(prior)

    @property
    def layouts(self) -> tuple[TensorLayout, ...]:
        bands = tuple(int(g) for g in self._groups)
        return (TensorLayout("heads", "plain", 1, (self.prior.kept,), self.grid.cells, bands=bands),)

    def train(self, cells: object, settings: EncodeSettings, on_step: OnStep, started: float) -> FittedEnsemble:
        from ..fitting import AdamSettings
        from .cellfit import Cells, measure_spreads, train

        assert isinstance(cells, Cells)
        prior, steps = self.prior, settings.iterations or self.prior.steps
        start = first_steps(prior, self.shape, cells, settings.device)
        weights = train(
            self.shape, cells, seed=settings.seed, iterations=steps, device=settings.device, on_step=on_step,
            peak=2.0 if self.signal.kind == "sound" else 1.0, adam=AdamSettings(prior.rate),
            time_limit_s=settings.time_limit_s and settings.time_limit_s - (time.monotonic() - started),
            start=start, mask=prior.mask, prunings=prior.prunings(steps),
        )  # fmt: skip
        spreads = measure_spreads(self.shape, weights, cells, base=prior.base, mask=prior.mask)
        return FittedEnsemble(weights, spreads, cells)

    def initial_step(self, fitted: FittedEnsemble, settings: EncodeSettings) -> float:
        """As of all ensembles; without --bits, the quality sets them: the networks cannot grow with it."""
        return 2.0 ** (1 - (settings.bits or max(1.0, BITS_AT_75 + (settings.quality - 75) / QUALITY_PER_BIT)))

    def quantize(
        self, fitted: FittedEnsemble, quantiser: Quantiser, on_step: OnStep = lambda _: None
    ) -> tuple[np.ndarray, ...]:
        differences = (fitted.weights - self.prior.base)[:, self._kept]
        codes = round_codes(differences, self._steps(quantiser))
        return (codes.T.reshape(self.layouts[-1].shape),)

    def dequantize(self, codes: Sequence[np.ndarray], quantiser: Quantiser) -> tuple[np.ndarray, ...]:
        (differences,) = super().dequantize(codes, quantiser)
        cells = differences.shape[2:]
        weights = np.zeros((1, self.shape.n_parameters, *cells))
        weights[:, self._kept] = differences + self.prior.base[self._kept].reshape(-1, *[1] * len(cells))
        return (weights,)


def first_steps(prior: Prior, shape: MlpShape, cells: Cells, device: str) -> np.ndarray:
    """Where Adam begins: the prior's start [P], or [G, P] after its steps of learned rates on each cell, where these
    have come nearer to the cell."""
    if prior.rates is None:
        return prior.start
    import torch

    from ..fitting import resolve_device

    target = resolve_device(device)
    start, mask, *rates = (torch.from_numpy(a).to(target) for a in (prior.start, prior.mask, *prior.rates))
    weights = np.empty((cells.shape[0], prior.n_parameters), np.float32)
    for rows, some in cells.chunks(STEP_VALUES // max(shape.width, prior.n_parameters // cells.shape[2])):
        u, y = (torch.from_numpy(a).to(target) for a in (some.coords, some.values))
        inside = torch.ones_like(y[:, :1]) if some.mask is None else torch.from_numpy(some.mask[:, None]).to(target)
        flat = (start * mask).expand(len(y), -1)
        begun, means = flat, []
        for rate in rates:  # 0 at pruned places
            flat = flat.detach().requires_grad_()
            mean = _mean_error(shape, flat, u, y, inside)
            means.append(mean.detach())
            mean.sum().backward()
            assert flat.grad is not None
            flat = flat - rate * flat.grad
        with torch.no_grad():
            nearer = _mean_error(shape, flat, u, y, inside) < means[0]  # not where they have run away
            weights[rows] = torch.where(nearer[:, None], flat, begun).cpu().numpy()
    return weights


def _mean_error(
    shape: MlpShape, flat: torch.Tensor, u: torch.Tensor, y: torch.Tensor, inside: torch.Tensor
) -> torch.Tensor:
    """Mean squared error of each cell, [G]."""
    error = (forward(shape, unflatten(shape, flat), u) - y) * inside
    return error.square().sum((1, 2)) / (inside.sum((1, 2)) * y.shape[1])


def _given(settings: EncodeSettings) -> Prior:
    assert isinstance(settings.prior, Prior)
    return settings.prior


def _spec(prior: Prior) -> FieldSpec:
    return FieldSpec(
        "ensemble", prior.body, prior.width, prior.depth, prior.omega, prior.features, prior.seed,
        prior=prior.id, kept=prior.kept,
    )  # fmt: skip


def _check_signal(prior: Prior, signal: SignalMeta) -> None:
    found, wanted = (signal.kind, len(signal.shape), signal.channels), (prior.kind, prior.fin, prior.fout)
    if found != wanted:
        raise ValueError(
            f"{signal.kind} of {len(signal.shape)} axes and {signal.channels} channels; the prior is for "
            f"{prior.kind}s of {prior.fin} axes and {prior.fout} channels"
        )
