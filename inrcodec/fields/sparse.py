"""Sparse linear heads on the features of one shared ReLU body (Multi-Head ReLU INR, arXiv 2110.03448).

Every head is connected to A of the body's n hidden units, drawn once from a seed. A head layer is its connections
[H, A] and as many values; the matrix [H, n] that they stand for is never made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..fitting import AdamSettings, descend, resolve_device
from .base import OnStep
from .heads import distinct_shapes, with_constant
from .layers import MlpShape, evaluate, flatten, forward, initial

if TYPE_CHECKING:
    import torch

__all__ = ["PAPER_ADAM", "SparseFit", "apply_heads", "evaluate_sparse", "solve_sparse", "supports", "train_sparse"]

PAPER_ADAM = AdamSettings(1e-3, "drops", eps=1e-7)  # Keras' eps
RAW_AT_ONCE = 2**22  # random numbers, or entries of normal equations, held at a time
GATHERED = 8  # positions up to which features are copied to their heads


@dataclass(frozen=True)
class SparseFit:
    """body: float64 [1, P] in layers' flat order. heads: float64 [H, A], offsets: float64 [H]. loss: mean square error
    of these weights on the values given."""

    body: np.ndarray
    heads: np.ndarray
    offsets: np.ndarray
    loss: float


def supports(heads: int, width: int, connections: int, seed: int) -> np.ndarray:
    """Which hidden units each head is connected to: int64 [heads, connections], rows rising, without repetition.

    Head h draws `width` raw 64-bit numbers of Philox4x64-10, one stream for all heads, and takes the units of the
    smallest, the lower unit of equals: the same on every platform. All of them where connections = width.
    """
    if not 1 <= connections <= width:
        raise ValueError(f"--connections {connections}: wanted 1 to the {width} units of --width")
    if connections == width:
        return np.tile(np.arange(width), (heads, 1))
    generator = np.random.Philox(key=seed)
    result = np.empty((heads, connections), np.int64)
    rows = max(1, RAW_AT_ONCE // width)
    for a in range(0, heads, rows):
        raw = generator.random_raw(width * min(rows, heads - a)).reshape(-1, width)
        result[a : a + rows] = np.sort(np.argsort(raw, axis=1, kind="stable")[:, :connections], axis=1)
    return result


def train_sparse(
    shape: MlpShape,
    support: np.ndarray,
    values: np.ndarray,
    coords: np.ndarray,
    *,
    bias: bool,
    seed: int,
    iterations: int,
    device: str,
    on_step: OnStep,
    adam: AdamSettings | None = None,
    keep: str = "best",
    time_limit_s: float | None = None,
) -> SparseFit:
    """Body and heads jointly, by Adam on the mean square error of values [H, N] at joint positions coords [D, N].

    shape: with fout = 0, its last hidden layer are the features. Glorot's start for the body, and for the heads on the
    shape of their flat vector, U(±√(3/(A·H))), as the paper's code has it; biases start at 0. adam: None for the
    paper's. bias: whether heads have offsets.
    """
    import torch

    target = resolve_device(device)
    generator = torch.Generator().manual_seed(seed)
    heads, connections = support.shape
    body = [
        p.detach().to(target).requires_grad_()
        for p in initial(shape, 1, generator=generator, bias="zero", init="glorot")[:-2]
    ]
    limit = (3 / (connections * heads)) ** 0.5
    weights = ((torch.rand((heads, connections), generator=generator) * 2 - 1) * limit).to(target).requires_grad_()
    offsets = torch.zeros(heads, 1, device=target, requires_grad=bias)
    u = torch.from_numpy(np.ascontiguousarray(coords, np.float32)).to(target).unsqueeze(0)
    y = torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(target)
    # connected to all, the layer is its values
    index = None if connections == shape.width else torch.from_numpy(support).to(target)

    def loss() -> torch.Tensor:
        h = forward(shape, body, u, hidden=True)[0]
        out = weights @ h if index is None else _sparse_product(weights, index, h)
        error = (out + offsets - y).square().mean()
        error.backward()
        return error.detach()

    report = descend(
        [*body, weights, *([offsets] if bias else [])], loss, adam=adam or PAPER_ADAM, iterations=iterations,
        stage="fit", on_step=on_step, keep=keep, time_limit_s=time_limit_s,
        psnr_db=lambda mse: float(-10 * np.log10(max(mse, 1e-20))),
    )  # fmt: skip
    as_array = [t.detach().cpu().numpy().astype(np.float64) for t in (weights, offsets)]
    return SparseFit(flatten(body), as_array[0], as_array[1][:, 0], report.loss)


def _sparse_product(weights: torch.Tensor, support: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """weights [H, A], support [H, A], features [n, N] -> [H, N]. Measured on a CPU core, forward and backward, at
    16,384 heads of 128 connections: 4 positions 61 ms gathered, 214 as bags, 380 as a CSR or COO matrix; at 4,096 heads
    of 426 and 16 positions 182, 142, 212."""
    import torch
    from torch.nn.functional import embedding_bag

    if features.shape[1] > GATHERED:
        return embedding_bag(support, features, per_sample_weights=weights, mode="sum")
    own = features.index_select(0, support.flatten()).view(*support.shape, -1)
    return torch.bmm(weights.unsqueeze(1), own).squeeze(1)


def evaluate_sparse(shape: MlpShape, fit: SparseFit, support: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """Values float64 [H, N] of all heads at joint positions coords [D, N]."""
    features = evaluate(shape, fit.body, coords[None], hidden=True)[0]
    return apply_heads(fit.heads[:, None], support, features)[:, 0] + fit.offsets[:, None]


def apply_heads(heads: np.ndarray, support: np.ndarray, features: np.ndarray) -> np.ndarray:
    """heads [B, C, A] on features [n, N], those that support [B, A] names -> float64 [B, C, N]: one sparse product."""
    from scipy.sparse import csr_array

    b, c, a = heads.shape
    index = np.repeat(support, c, axis=0).ravel()
    layer = csr_array((heads.ravel(), index, np.arange(b * c + 1) * a), shape=(b * c, len(features)))
    return np.asarray(layer @ features).reshape(b, c, -1)


def solve_sparse(
    shape: MlpShape, body: np.ndarray, support: np.ndarray, *, values: np.ndarray, coords: np.ndarray, mask: np.ndarray,
    ridge: float,
) -> np.ndarray:  # fmt: skip
    """The best heads, ridge regression on their own features: float64 [G, C, A + 1], the constant's weight first.

    support [G, A], values [G, C, N], coords [G, D, N], mask [G, N]: which samples a cell has. ridge: relative to
    features of mean square 1. Cells of one shape share their positions, hence features, and every head's normal
    equations are a submatrix of the shared ones.
    """
    result = np.empty((*values.shape[:2], support.shape[1] + 1))
    index = np.concatenate((np.zeros((len(support), 1), np.int64), support + 1), axis=1)
    diagonal = np.diag([1e-9, *[ridge] * support.shape[1]])  # the constant is not held back
    for rows, inside in distinct_shapes(mask):
        f = with_constant(evaluate(shape, body, coords[rows[:1]][:, :, inside], hidden=True)[0])
        gram = f @ f.T / f.shape[1]
        size = max(1, RAW_AT_ONCE // index.shape[1] ** 2)
        for a in range(0, len(rows), size):
            some = rows[a : a + size]
            own = index[some]
            cross = np.take_along_axis(values[some][:, :, inside] @ f.T / f.shape[1], own[:, None], axis=2)
            square = gram[own[:, :, None], own[:, None, :]] + diagonal
            result[some] = np.linalg.solve(square, cross.transpose(0, 2, 1)).transpose(0, 2, 1)
    return result
