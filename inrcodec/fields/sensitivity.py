"""Measures what rounding one group of weights costs, from which fields choose its step."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

__all__ = ["rounding_cost"]


def rounding_cost(
    error: Callable[[np.ndarray], float], weights: np.ndarray, group: np.ndarray, step: float, *, before: float
) -> float:
    """By how much error(weights), weights [G, P], rises where those of group (bool [P]) are rounded to `step`. before:
    error(weights), the same for every group.

    Noise of a rounding error's power is added and subtracted. Weights that training has not brought to a minimum have
    a slope, along which noise of one sign changes the error by more than curvature does, up or down; rounding goes
    either way, so that the mean of both is its cost. It is negative where the error bends downwards.
    """
    signs = np.random.default_rng(0).choice((-1.0, 1.0), (len(weights), int(group.sum())))
    risen = []
    for size in (-step / math.sqrt(12), step / math.sqrt(12)):
        moved = weights.copy()
        moved[:, group] += size * signs
        risen.append(error(moved))
    return sum(risen) / 2 - before
