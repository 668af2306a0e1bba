"""Sparse linear heads on the features of one shared ReLU body (Multi-Head ReLU INR, arXiv 2110.03448).

Every head is connected to A of the body's n hidden units, drawn once from a seed. A head layer is its connections
[H, A] and as many values; the matrix [H, n] that they stand for is never made whole: gradients make it in blocks, of
half the heads at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..fitting import AdamSettings, Keeper, descend, resolve_device, threads_for
from .base import OnStep
from .heads import distinct_shapes, with_constant
from .layers import MlpShape, evaluate, flatten, forward, initial

if TYPE_CHECKING:
    import torch

__all__ = ["PAPER_ADAM", "SparseFit", "apply_heads", "evaluate_sparse", "solve_sparse", "supports", "train_sparse"]

PAPER_ADAM = AdamSettings(1e-3, "drops", eps=1e-7)  # Keras' eps
RAW_AT_ONCE = 2**22  # random numbers, or entries of normal equations, held at a time
FEW = 8  # connections are few below one in so many of the features
BLOCK_VALUES = 2**17  # of the matrix, made at a time: a block stays in the caches
BLOCK_VALUES_GPU = 2**24  # fewer and larger products: 256² heads 3.6 instead of 25 ms a step on an H200


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
    keeper: Keeper | None = None,
) -> SparseFit:
    """Body and heads jointly, by Adam on the mean square error of values [H, N] at joint positions coords [D, N].

    shape: with fout = 0, its last hidden layer are the features. Glorot's start for the body, and for the heads on the
    shape of their flat vector, U(±√(3/(A·H))), as the paper's code has it; biases start at 0. adam: None for the
    paper's. bias: whether heads have offsets. keeper: fitting.descend's.
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

    with threads_for(heads * len(coords[0]) + connections * heads, target):
        report = descend(
            [*body, weights, *([offsets] if bias else [])], loss, adam=adam or PAPER_ADAM, iterations=iterations,
            stage="fit", on_step=on_step, keep=keep, time_limit_s=time_limit_s, keeper=keeper,
            psnr_db=lambda mse: float(-10 * np.log10(max(mse, 1e-20))),
        )  # fmt: skip
    as_array = [t.detach().cpu().numpy().astype(np.float64) for t in (weights, offsets)]
    return SparseFit(flatten(body), as_array[0], as_array[1][:, 0], report.loss)


def _sparse_product(weights: torch.Tensor, support: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """weights [H, A], support [H, A], features [n, N] -> [H, N].

    The gradients of torch's bags go connection by connection, 20 times slower than a matrix product; where connections
    are not few, products over some heads at a time are quicker. Forward and backward on a busy CPU core: 4,096 heads of
    426 in 427 at 16 positions, bags 447 ms, blocks 22; 16,384 of 128 in 256 at 4, gathered 205, blocks 36; but 1,024 of
    16 in 1,024 at 256, bags 8, blocks 30. The block of a single head would be the whole matrix.
    """
    from torch.nn.functional import embedding_bag

    if support.shape[1] * FEW < len(features) or len(weights) == 1:
        return embedding_bag(support, features, per_sample_weights=weights, mode="sum")
    product: torch.Tensor = _blockwise().apply(weights, support, features)
    return product


@cache
def _blockwise() -> Any:
    """The autograd function of `_sparse_product`; made when torch is there."""
    import torch
    from torch.nn.functional import embedding_bag

    class Blockwise(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, weights: torch.Tensor, support: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(weights, support, features)
            return embedding_bag(support, features, per_sample_weights=weights, mode="sum")

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, torch.Tensor]:
            weights, support, features = ctx.saved_tensors
            of_weights, of_features = torch.empty_like(weights), torch.zeros_like(features)
            limit = BLOCK_VALUES if features.device.type == "cpu" else BLOCK_VALUES_GPU
            size = max(1, min(limit // len(features), len(weights) // 2))
            for a in range(0, len(weights), size):
                rows = slice(a, a + size)
                of_weights[rows] = (gradient[rows] @ features.T).gather(1, support[rows])
                block = weights.new_zeros(len(weights[rows]), len(features)).scatter_(1, support[rows], weights[rows])
                of_features.addmm_(block.T, gradient[rows])
            return of_weights, None, of_features

    return Blockwise


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
