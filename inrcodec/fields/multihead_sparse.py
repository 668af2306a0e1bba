"""Fits one ReLU MLP shared by all cells, and one sparse head per cell on its hidden units (Multi-Head ReLU,
arXiv 2110.03448, with the connections of its code)."""

from __future__ import annotations

import time
from functools import cached_property

import numpy as np

from ..grid import Grid
from ..settings import EncodeSettings
from ..signals import SignalMeta
from ..stream import FieldSpec
from .base import OnStep
from .layers import MlpShape, evaluate
from .multihead import FittedMultihead, MultiheadMlpField
from .sparse import apply_heads, solve_sparse, supports, train_sparse

__all__ = ["SparseMultiheadField"]

ITERATIONS = 2000  # the paper's
HEADS_TRAINED = 1024  # at most, spread over the signal: the body is shared, and all heads are solved in the end
DEPTH = 1
WIDTH_PER_CONNECTION = 2
RIDGE, RIDGE_OF_STEP = 1e-5, 2.0  # of squared steps; .3 and 10 lose up to 1.5 dB at equal bytes


class SparseMultiheadField(MultiheadMlpField):
    """Tensors: body [1, P, 1, …] without a linear layer at the end; heads [1, (A + 1) · C, *cells], weight f · C + c of
    connection f (0: the constant 1). A cell's channels share its connections.

    Features have mean square 1 over a full cell, by scaling the last hidden layer (ReLU is homogeneous), so that an
    error of a head's weight is an error in samples.
    """

    @cached_property
    def _support(self) -> np.ndarray:
        """int64 [G, A]: the connections of each cell. Drawn when codes are known to be good: millions take seconds."""
        return supports(self.grid.n_cells, self.spec.width, self.spec.connections, self.spec.seed)

    @staticmethod
    def _body_shape(spec: FieldSpec, axes: int) -> MlpShape:
        return MlpShape(axes, spec.width, spec.depth, 0, spec.body)

    @classmethod
    def plan_spec(
        cls, signal: SignalMeta, grid: Grid, settings: EncodeSettings, samples: np.ndarray | None = None
    ) -> FieldSpec:
        a = settings.connections
        assert a is not None
        width = settings.width or WIDTH_PER_CONNECTION * a
        if a > width:
            raise ValueError(f"--connections {a}: wanted at most the {width} units of --width")
        depth = DEPTH if settings.depth is None else settings.depth
        return FieldSpec("multihead", "relu", width, depth, seed=settings.seed, connections=a)

    @property
    def inputs(self) -> int:
        return self.spec.connections

    def head_class(self, feature: int) -> int:
        return int(feature > 0)  # connections have no order

    def fit_body(
        self, values: np.ndarray, u: np.ndarray, rows: np.ndarray, *, settings: EncodeSettings, on_step: OnStep,
        started: float,
    ) -> np.ndarray:  # fmt: skip
        channels = values.shape[1]
        some = np.unique(np.linspace(0, len(rows) - 1, max(1, HEADS_TRAINED // channels)).astype(int))
        support = np.repeat(self._support[rows[some]], channels, axis=0)
        fit = train_sparse(
            self.shape, support, values[some].reshape(len(support), -1), u, bias=True, seed=settings.seed,
            iterations=settings.iterations or ITERATIONS, device=settings.device, on_step=on_step,
            time_limit_s=settings.time_limit_s and settings.time_limit_s - (time.monotonic() - started),
        )  # fmt: skip
        body = fit.body.copy()
        power = np.mean(np.square(evaluate(self.shape, body, u[None], hidden=True)[0]), axis=1)
        scale = 1 / np.sqrt(np.where(power > 1e-12, power, 1.0))  # units that never fire stay as they are
        i, o = self.shape.sizes[-2]
        first = body.shape[1] - (i * o + o)
        body[0, first : first + i * o] *= np.tile(scale, i)
        body[0, first + i * o :] *= scale
        return body

    def solve(self, fitted: FittedMultihead, body: np.ndarray, step: float = 0.0) -> np.ndarray:
        """Hidden units are alike, and their weights large against each other, which costs bits: the ridge grows with
        the step."""
        return solve_sparse(
            self.shape, body, self._support, values=fitted.values, coords=fitted.coords, mask=fitted.mask,
            ridge=RIDGE + RIDGE_OF_STEP * step**2,
        )  # fmt: skip

    def residual(self, body: np.ndarray, values: np.ndarray, u: np.ndarray, rows: np.ndarray) -> float:
        own, everything = self._support[rows], np.ones((len(rows), u.shape[1]), bool)
        coords = np.broadcast_to(u, (len(rows), *u.shape))
        heads = solve_sparse(self.shape, body, own, values=values, coords=coords, mask=everything, ridge=RIDGE)
        fitted = apply_heads(heads[:, :, 1:], own, self._features(body, u[None])[0]) + heads[:, :, :1]
        return float(np.mean((values - fitted) ** 2))

    def apply_each(self, heads: np.ndarray, features: np.ndarray, cells: np.ndarray) -> np.ndarray:
        own = np.take_along_axis(features, self._support[cells][:, :, None], axis=1)
        values: np.ndarray = heads @ own
        return values

    def apply_shared(self, heads: np.ndarray, features: np.ndarray, cells: np.ndarray) -> np.ndarray:
        return apply_heads(heads, self._support[cells], features)
