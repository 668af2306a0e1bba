"""The default field of pictures, its codes under learned contexts of the user's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..grid import Grid
from ..priors.context_file import ContextFile
from ..settings import EncodeSettings
from ..signals import SignalMeta
from ..stream import FieldSpec, TensorLayout
from .cosine import CosineField

__all__ = ["ContextualField"]


class ContextualField(CosineField):
    """Its heads' contexts are those of a prior, which the file names. Raises ValueError where a signal has not two
    axes: the codes of others have no learned contexts."""

    def __init__(self, spec: FieldSpec, signal: SignalMeta, grid: Grid, prior: ContextFile) -> None:
        _check_axes(signal)
        super().__init__(spec, signal, grid)
        self._contexts = prior.contexts

    @classmethod
    def plan_spec(
        cls, signal: SignalMeta, grid: Grid, settings: EncodeSettings, samples: np.ndarray | None = None
    ) -> FieldSpec:
        """Raises ValueError besides where the coder asked for has no contexts."""
        _check_axes(signal)
        if settings.entropy == "zstd":
            raise ValueError("--prior and --entropy zstd exclude each other: zstd has no contexts")
        assert settings.prior is not None and settings.prior.id
        return replace(super().plan_spec(signal, grid, settings, samples), prior=settings.prior.id)

    @property
    def layouts(self) -> tuple[TensorLayout, ...]:
        *shared, heads = super().layouts
        return (*shared, replace(heads, contexts=self._contexts))


def _check_axes(signal: SignalMeta) -> None:
    if len(signal.shape) != 2:
        raise ValueError(f"{signal.kind}: the prior is of contexts, which are for pictures and arrays of two axes")
