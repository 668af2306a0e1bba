"""Steps until small networks have learnt step functions: the motivation experiment of Partition (arXiv 2310.14184).

All runs of a sweep are one batch of networks; a run leaves it at its own stopping step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from inrcodec.fields.layers import MlpShape, forward, initial
from inrcodec.fitting import flushed_denormals, resolve_device

__all__ = ["LIMIT", "Growth", "fit_growth", "line_steps", "near_square", "plane_points", "plane_steps", "thresholds"]

LIMIT = 4000  # steps at most
ENOUGH = 0.05  # test MSE at which a run stops
WORTH_TESTING = 0.2  # training MSE above which no test is run: one step of Adam does not bridge the difference
POINTS = 5000
RATE, BETAS, EPS = 1e-3, (0.9, 0.999), 1e-8
CHUNK_VALUES = 2**17  # of one layer at once: stays in the caches
CHUNK_VALUES_GPU = 2**26

Points = Callable[[np.ndarray], tuple[torch.Tensor, torch.Tensor]]  # runs -> coords [R, P, D, N], targets [R, P, 1, N]


@dataclass(frozen=True)
class Growth:
    """steps = a · exp(b · boundaries) + c; p = e^b is the factor that one boundary more costs."""

    a: float
    b: float
    c: float

    @property
    def p(self) -> float:
        return float(np.exp(self.b))


def fit_growth(boundaries: Sequence[float], steps: Sequence[float]) -> Growth:
    """As the authors do: a cubic through the means, then the exponential through the cubic, within their bounds."""
    from scipy.optimize import curve_fit

    x = np.asarray(boundaries, float)
    cubic = np.polynomial.Polynomial.fit(x, np.asarray(steps, float), 3)
    dense = np.linspace(x.min(), x.max(), 200)
    (a, b, c), _ = curve_fit(
        lambda v, a, b, c: a * np.exp(b * v) + c,
        dense, cubic(dense), p0=(30.0, min(0.1, 5 / x.max()), 0.0), bounds=((1, 0.001, -100), (60, 0.1, 10)),
        max_nfev=20000,
    )  # fmt: skip
    return Growth(float(a), float(b), float(c))


def thresholds(counts: Sequence[int], rng: np.random.Generator) -> torch.Tensor:
    """[R, max] sorted, uniform in (−1, 1); rows with fewer begin with −2, which lies below every x."""
    rows = np.full((len(counts), max(counts)), -2.0, np.float32)
    for row, n in zip(rows, counts, strict=True):
        row[len(row) - n :] = np.sort(rng.uniform(-1, 1, n))
    return torch.from_numpy(rows)


def step_signal(levels: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """+1 where the number of thresholds above x is even, else −1; levels [R, B], x [R, N]."""
    above = levels.shape[1] - torch.searchsorted(levels, x.contiguous(), right=True)
    return 1.0 - 2.0 * (above % 2)


def line_steps(
    levels: torch.Tensor, *, width: int, parts: int = 1, local: bool = True, seed: int, device: str = "cpu"
) -> np.ndarray:
    """Steps of each 1-D signal of levels [R, B] until the test MSE is below .05, LIMIT where it never is.

    parts: equal parts of [−1, 1], each with a network of its own, on its own coordinates or on the whole's.
    """
    generator = torch.Generator().manual_seed(seed)
    starts = torch.arange(parts)[:, None] * (2 / parts) - 1
    regular = torch.linspace(-1, 1, POINTS // parts).expand(parts, -1)

    def points(u: torch.Tensor, runs: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        x = starts + (u + 1) / parts
        y = step_signal(levels[runs], x.reshape(len(runs), -1)).reshape(x.shape)
        return (u if local else x).unsqueeze(2), y.unsqueeze(2)

    def fresh(runs: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return points(torch.rand((len(runs), parts, POINTS // parts), generator=generator) * 2 - 1, runs)

    def test(runs: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return points(regular.expand(len(runs), -1, -1), runs)

    shape = MlpShape(1, width, 3, 1, "siren", omega=10.0)
    return steps_until(shape, len(levels), parts, fresh, test, seed=seed, device=device)


def plane_steps(
    across: torch.Tensor, down: torch.Tensor, *, side: int, seed: int, device: str = "cpu", width: int = 32,
    parts: int = 1, local: bool = True, omega: float = 30.0,
) -> np.ndarray:  # fmt: skip
    """The same of products of two step functions, on a side × side grid, every step on all of it; parts: per axis."""
    coords, targets = plane_points(across, down, side=side, parts=parts, local=local)

    def points(runs: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return coords.expand(len(runs), -1, -1, -1), targets[runs]

    shape = MlpShape(2, width, 3, 1, "siren", omega=omega)
    return steps_until(shape, len(across), parts**2, points, None, seed=seed, device=device)


def plane_points(
    across: torch.Tensor, down: torch.Tensor, *, side: int, parts: int, local: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """coords [1, parts², 2, N] as (row, column), each part's from −1 to 1 where local; values [R, parts², 1, N]."""
    axis, n = torch.linspace(-1, 1, side), side // parts
    assert n * parts == side, "parts of equal size"
    own = torch.linspace(-1, 1, n).expand(parts, -1) if local else axis.reshape(parts, n)
    y, x = own[:, None, :, None].expand(-1, parts, -1, n), own[None, :, None, :].expand(parts, -1, n, -1)
    one = axis.expand(len(across), -1)
    signal = step_signal(down, one).unsqueeze(2) * step_signal(across, one).unsqueeze(1)
    cut = signal.reshape(-1, parts, n, parts, n).transpose(2, 3)
    return torch.stack((y, x), dim=2).reshape(1, parts**2, 2, -1), cut.reshape(len(across), parts**2, 1, -1)


def near_square(product: int) -> tuple[int, int]:
    """The factors of a number that lie nearest to each other."""
    low = max(f for f in range(1, int(product**0.5) + 1) if product % f == 0)
    return low, product // low


@flushed_denormals()
def steps_until(
    shape: MlpShape, n_runs: int, parts: int, fresh: Points, test: Points | None, *, seed: int,
    device: str = "cpu",
) -> np.ndarray:  # fmt: skip
    """Adam on every run's `parts` networks at once; int [n_runs]: the first step after which the run's test MSE, the
    mean over its parts, is below ENOUGH; LIMIT where it never is.

    test: None where the training points are always the same: their loss says what a test after the step before would.
    """
    drawn = initial(shape, n_runs * parts, generator=torch.Generator().manual_seed(seed), bias="1/sqrt(in)")
    target = resolve_device(device)
    weights = [p.detach().to(target).reshape(n_runs, parts, *p.shape[1:]) for p in drawn]
    first, second = [torch.zeros_like(w) for w in weights], [torch.zeros_like(w) for w in weights]
    left, result = np.arange(n_runs), np.full(n_runs, LIMIT)

    def moved(pair: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        return pair[0].to(target), pair[1].to(target)  # points are drawn on the CPU: the same ones on every device

    for step in range(1, LIMIT + 1):
        leaves = [w.requires_grad_() for w in weights]
        coords, targets = moved(fresh(left))
        losses = _losses(shape, leaves, coords, targets, learn=True)
        with torch.no_grad():
            correction = (1 - BETAS[1] ** step) ** 0.5 / (1 - BETAS[0] ** step)
            for w, m, v in zip(leaves, first, second, strict=True):
                m.lerp_(w.grad, 1 - BETAS[0])
                v.mul_(BETAS[1]).addcmul_(w.grad, w.grad, value=1 - BETAS[1])
                w.sub_(RATE * correction * m / (v.sqrt() + EPS * (1 - BETAS[1] ** step) ** 0.5))
            weights = [w.detach() for w in leaves]
            near = np.flatnonzero(losses.cpu().numpy() < (ENOUGH if test is None else WORTH_TESTING))
            if not len(near):
                continue
            done = near
            if test is not None:
                done = near[_losses(shape, [w[near] for w in weights], *moved(test(left[near]))).cpu().numpy() < ENOUGH]
        if len(done):
            result[left[done]] = step - (test is None)
            stay = np.setdiff1d(np.arange(len(left)), done)
            left = left[stay]
            weights, first, second = ([t[stay] for t in group] for group in (weights, first, second))
            if not len(left):
                break
    return result


def _losses(
    shape: MlpShape, weights: Sequence[torch.Tensor], coords: torch.Tensor, targets: torch.Tensor, learn: bool = False
) -> torch.Tensor:
    """MSE of every run [R]; with learn, their gradients are left on the weights. A few runs at a time, for caches."""
    runs, parts, _, n = coords.shape
    limit = CHUNK_VALUES if coords.device.type == "cpu" else CHUNK_VALUES_GPU
    size = max(1, limit // (parts * n * shape.width))
    results = []
    for a in range(0, runs, size):
        own = [w[a : a + size].flatten(0, 1) for w in weights]
        values = forward(shape, own, coords[a : a + size].flatten(0, 1))
        error = (values - targets[a : a + size].flatten(0, 1)).square().mean((1, 2)).reshape(-1, parts).mean(1)
        if learn:
            error.sum().backward()
        results.append(error.detach())
    return torch.cat(results)
