"""Linear heads on shared features: orthonormal features, least squares."""

from __future__ import annotations

import numpy as np

from .layers import MlpShape, evaluate

__all__ = ["distinct_shapes", "orthonormalise", "residual", "solve_heads"]

RIDGE = 1e-6  # relative to features of mean square 1
EIGENVALUE_FLOOR = 1e-6  # of hidden units' covariance, relative to the largest: directions below it are dropped


def distinct_shapes(mask: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """mask [G, N] -> for each distinct cell shape (its cells, its positions inside); at most 2^D of them."""
    patterns, which = np.unique(mask, axis=0, return_inverse=True)
    return [(np.flatnonzero(which.ravel() == k), p) for k, p in enumerate(patterns)]


def orthonormalise(hidden: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """hidden units [n, N], targets [K, N] -> linear layer (weight [n, n], bias [n]) whose outputs on these positions
    have mean 0, mean square 1, no correlation, and fall in the energy of the targets that they explain."""
    count = hidden.shape[1]
    mean = hidden.mean(axis=1)
    centred = hidden - mean[:, None]
    energy, vectors = np.linalg.eigh(centred @ centred.T / count)
    used = energy > EIGENVALUE_FLOOR * max(float(energy[-1]), 1e-30)
    white = np.where(used, vectors / np.sqrt(np.where(used, energy, 1)), 0)
    projected = white.T @ centred @ (targets - targets.mean(axis=1, keepdims=True)).T / count
    _, turned = np.linalg.eigh(projected @ projected.T)
    weight = white @ turned[:, ::-1]
    return weight, -mean @ weight


def solve_heads(
    shape: MlpShape, body: np.ndarray, values: np.ndarray, coords: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Least squares, float64 [G, C, n + 1], constant first; arguments as FittedMultihead has them."""
    heads = np.empty((values.shape[0], values.shape[1], shape.fout + 1))
    for rows, inside in distinct_shapes(mask):
        u = coords[rows[0]][None, :, inside]
        features = with_constant(evaluate(shape, body, u)[0])
        everything = bool(inside.all())
        own = values if everything and len(rows) == len(values) else values[rows]
        heads[rows] = _project(own if everything else own[:, :, inside], features)
    return heads


def residual(shape: MlpShape, body: np.ndarray, u: np.ndarray, values: np.ndarray) -> float:
    """Mean square error that the best heads leave of samples values [G, C, N] at local positions u [D, N]."""
    features = with_constant(evaluate(shape, body, u[None])[0])
    flat = values.reshape(-1, values.shape[2]).astype(np.float64)
    return float(np.mean((flat - _project(flat[None], features)[0] @ features) ** 2))


def with_constant(features: np.ndarray) -> np.ndarray:
    """[n, N] -> [n + 1, N] with the constant 1 first."""
    return np.concatenate((np.ones_like(features[:1]), features))


def _project(values: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Ridge regression of values [..., N] on features [n, N] -> [..., n]."""
    count = features.shape[1]
    gram = features @ features.T / count + RIDGE * np.eye(len(features))
    dual = np.linalg.solve(gram, features / count)
    return (values.reshape(-1, count) @ dual.T.astype(values.dtype)).reshape(*values.shape[:-1], -1)
