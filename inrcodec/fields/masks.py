"""The weights of many networks that are pruned, as factors of their parameters (torch)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..priors.prior import biases, largest
from .layers import MlpShape, unflatten

if TYPE_CHECKING:
    import torch

__all__ = ["Masks"]


class Masks:
    """The weights that are not 0 (bool [G or 1, P]), and the steps at which each cell's smallest join them."""

    def __init__(
        self, shape: MlpShape, groups: int, mask: np.ndarray | None, prunings: Mapping[int, int], device: torch.device
    ) -> None:
        self._shape, self._prunings, self._device, self._steps = shape, prunings, device, 0
        kept = np.ones((1, shape.n_parameters), bool) if mask is None else mask[None]
        self._set(np.repeat(kept, groups, axis=0) if prunings else kept)

    def step(self, weights: Callable[[], np.ndarray]) -> None:
        """To be called before each step; weights: what they are then, [G, P]."""
        left = self._prunings.get(self._steps)
        self._steps += 1
        if left is not None:
            bias = biases(self._shape.sizes)
            self._set(largest(np.abs(weights()), self.kept & ~bias, left) | bias)

    def apply(self, parameters: Sequence[torch.Tensor], rows: Any) -> list[torch.Tensor]:
        some = rows if len(self.kept) > 1 else slice(None)
        return [p * m[some] for p, m in zip(parameters, self._factors, strict=True)]

    def _set(self, kept: np.ndarray) -> None:
        import torch

        self.kept = kept
        self._factors = unflatten(self._shape, torch.from_numpy(kept.astype(np.float32)).to(self._device))
