"""Turns signals into a prior: second-order MAML and pruning in turns (Meta-SparseINR), and its baselines.

The papers: Meta-SparseINR, arXiv 2110.14678; Partition, arXiv 2310.14184. State goes out and in as numpy arrays; the
batch of step s is drawn from (seed, s), so that training that was stopped goes on as if it had not been. Torch is
imported inside the functions that train.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..fields.base import OnStep, Progress
from ..fields.layers import HIDDEN_OMEGA, MlpShape, flatten, forward, initial, unflatten
from ..fields.locate import gather
from ..fitting import AdamSettings, descend, make_adam, resolve_device, threads_for
from ..grid import Grid
from ..signals import Signal
from .prior import MAX_ROUNDS, METHODS, PER_SIGNAL, Prior, biases, largest, survivors

if TYPE_CHECKING:
    import torch

__all__ = [
    "LEARNED",
    "OTHER_RATES",
    "MetaSettings",
    "MetaState",
    "Tasks",
    "adapt",
    "alike",
    "default_rates",
    "first_state",
    "make_prior",
    "mask_factors",
    "n_weights",
    "narrow_width",
    "plan",
    "psnr_db",
    "schedule_for",
    "train",
]

OTHER_RATES = (1e-2, 5e-4, 2e-3)  # as default_rates, for relu and fourier networks
LEARNED = (3, 1e-5, 1e-4)  # inner steps, the rate that learned ones begin with, the outer rate: Partition's
PIECE = 50  # outer steps between two states handed out


@dataclass(frozen=True)
class Tasks:
    """Patches of signals. signals: float32 [*shape, C] each; coords float32 [D, N]: the patch's positions.

    regions int [k, n]: the positions of each of k clones of the network (Partition), which share its start and fit a
    region each; one clone has all of them.
    """

    signals: tuple[np.ndarray, ...]
    patch: tuple[int, ...]
    coords: np.ndarray
    regions: np.ndarray

    @classmethod
    def of(cls, signals: Sequence[np.ndarray], cell: Sequence[int], parts: int = 1) -> Tasks:
        """Patches of so many cells of this size per axis, each in its own coordinates, as files have them. Raises
        ValueError where a signal is smaller than the patch."""
        patch = tuple(n * parts for n in cell)
        of = f", {parts} cells of {cell[0]} on an axis" if parts > 1 else ""
        for s in signals:
            if s.ndim != len(patch) + 1 or s.shape[-1] != signals[0].shape[-1]:
                raise ValueError(f"signals of {signals[0].ndim - 1} and {s.ndim - 1} axes, or of unlike channels")
            if any(n < m for n, m in zip(s.shape, patch, strict=False)):
                raise ValueError(f"signal of {s.shape[:-1]} samples, smaller than the patch of {patch}{of}")
        axes, n_cells = len(patch), parts ** len(patch)
        _, own, _ = gather(np.zeros((*patch, 1), np.float32), Grid.uniform(patch, (parts,) * axes))
        by_cell = np.arange(math.prod(patch)).reshape([n for m in cell for n in (parts, m)])
        regions = by_cell.transpose(*range(0, 2 * axes, 2), *range(1, 2 * axes, 2)).reshape(n_cells, -1)
        coords = np.empty((axes, math.prod(patch)), np.float32)
        coords[:, regions] = own.transpose(1, 0, 2)
        return cls(tuple(signals), patch, coords, regions)

    @property
    def cell(self) -> tuple[int, ...]:
        """Samples per axis of what one clone fits."""
        parts = round(len(self.regions) ** (1 / len(self.patch)))
        return tuple(n // parts for n in self.patch)

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """n patches of signals drawn with replacement, at random places: float32 [n, C, N]."""
        patches = []
        for which in rng.integers(len(self.signals), size=n):
            signal = self.signals[which]
            at = [int(rng.integers(s - m + 1)) for s, m in zip(signal.shape, self.patch, strict=False)]
            cut = signal[tuple(slice(a, a + m) for a, m in zip(at, self.patch, strict=True))]
            patches.append(cut.reshape(-1, cut.shape[-1]).T)
        return np.ascontiguousarray(patches, np.float32)

    def networks(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """values [B, C, N] -> those of B·k networks: values [B·k, C, n], coords [B·k, D, n]."""
        n = self.regions.shape[1]
        own = values[:, :, self.regions].transpose(0, 2, 1, 3).reshape(-1, values.shape[1], n)
        return own, np.tile(self.coords[:, self.regions].transpose(1, 0, 2), (len(values), 1, 1))


def alike(signals: Sequence[Signal]) -> tuple[list[np.ndarray], str]:
    """Samples [*shape, C] of signals of one kind, with as many channels in all, and that kind. Pictures lose their
    alpha, and gray ones among colour become colour. Raises ValueError for several kinds."""
    kinds = {s.meta.kind for s in signals}
    if len(kinds) > 1:
        raise ValueError(f"signals of different kinds: {', '.join(sorted(kinds))}")
    samples = [s.samples[..., : s.meta.channels - s.meta.alpha] for s in signals]
    channels = max(s.shape[-1] for s in samples)
    if kinds == {"image"}:
        samples = [s if s.shape[-1] == channels else s.repeat(channels, axis=-1) for s in samples]
    return samples, kinds.pop()


@dataclass(frozen=True)
class MetaSettings:
    """schedule: weights (biases not counted) left after each pruning. first_order: the outer gradient leaves out how
    the inner steps depend on the start (fails with sines: docs/papers.md, row 12; for comparison). learn_rates:
    inner_rate is where one learned rate per parameter and step begins (Partition). The papers' rates: default_rates."""

    method: str = "maml"
    outer_steps: int = 1200
    steps_per_round: int = 200
    schedule: tuple[int, ...] = ()
    inner_steps: int = 2
    inner_rate: float = 0.1
    outer_rate: float = 6.7e-5
    batch: int = 3
    seed: int = 0
    device: str = "auto"
    first_order: bool = False
    learn_rates: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"--method {self.method}: wanted one of {', '.join(METHODS)}")
        for name, value, least in (
            ("outer-steps", self.outer_steps, 0), ("steps-per-round", self.steps_per_round, 1),
            ("inner-steps", self.inner_steps, 1), ("batch", self.batch, 1),
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"--{name} {value}: wanted at least {least}")
        for name, rate in (("inner-rate", self.inner_rate), ("outer-rate", self.outer_rate)):
            if not 0 < rate < math.inf:
                raise ValueError(f"--{name} {rate}: wanted a positive number")

    @property
    def n_steps(self) -> int:
        return self.outer_steps + self.steps_per_round * len(self.schedule)


@dataclass(frozen=True)
class MetaState:
    """values float32 [1 + K, P]: the start and, where they are learned, the rates of K inner steps; moments float32
    [2, 1 + K, P]: Adam's. mask bool [P]. rounds: prunings done. loss: of the last batch looked at."""

    step: int
    rounds: int
    values: np.ndarray
    moments: np.ndarray
    mask: np.ndarray
    loss: float = math.inf

    @property
    def start(self) -> np.ndarray:
        return self.values[0]


def default_rates(omega: float) -> tuple[float, float, float]:
    """(inner SGD, outer Adam, Adam that fits a signal) for a sine network of this factor: Meta-SparseINR has .01,
    1e-5, 1e-4 at 200 in all layers, SGD's go with its inverse square, Adam's with its inverse, for hidden weights act
    as ω · W. At 30 an inner rate of .44 comes out, and .3 diverged: .1 it is there."""
    factor = HIDDEN_OMEGA / max(omega, HIDDEN_OMEGA)
    return 0.1 * factor**2, 6.7e-5 * factor, 6.7e-4 * factor


def schedule_for(n: int, *, sparsity: float, rounds: int | None = None) -> tuple[int, ...]:
    """Weights left of n after each round, until the fraction `sparsity` is gone and no more: 20 % of those left in each
    (the paper's share) but the last, or, in so many rounds as asked for, the same share in each. Raises ValueError."""
    if not 0 <= sparsity < 1:
        raise ValueError(f"--sparsity {sparsity:g}: wanted the fraction to remove, 0 to less than 1")
    wanted = max(1, round(n * (1 - sparsity)))
    if rounds is not None:
        if not 1 <= rounds <= MAX_ROUNDS:
            raise ValueError(f"--rounds {rounds}: wanted 1 to {MAX_ROUNDS}")
        shares = [round(n * (wanted / n) ** (k / rounds)) for k in range(1, rounds + 1)]
        return tuple(sorted({s for s in shares if s < n}, reverse=True))
    left = [n]
    while left[-1] > wanted:
        left.append(max(wanted, survivors(left[-1], 1)) if left[-1] > 4 else wanted)
    return tuple(left[1:])


def n_weights(shape: MlpShape) -> int:
    return sum(i * o for i, o in shape.sizes)


def narrow_width(shape: MlpShape, n: int) -> int:
    """The width at which a network of this depth has about n weights."""
    return min(range(1, shape.width + 1), key=lambda w: abs(n_weights(replace(shape, width=w)) - n))


def plan(shape: MlpShape, settings: MetaSettings) -> tuple[MlpShape, MetaSettings]:
    """The network and the training that a method means: baselines train without pruning, narrow ones at the width of
    as many weights as would be left; scratch trains nothing."""
    if settings.method in ("dense-narrow", "scratch") and settings.schedule:
        shape = replace(shape, width=narrow_width(shape, settings.schedule[-1]))
    if settings.method not in ("maml", "maml-random"):
        settings = replace(settings, schedule=())
    return shape, replace(settings, outer_steps=0) if settings.method == "scratch" else settings


def first_state(shape: MlpShape, settings: MetaSettings) -> MetaState:
    import torch

    generator = torch.Generator().manual_seed(settings.seed)
    bias = "same as weights" if shape.body == "siren" else "zero"
    start = flatten(initial(shape, 1, generator=generator, bias=bias)).astype(np.float32)
    rates = np.full((settings.inner_steps * settings.learn_rates, start.shape[1]), settings.inner_rate, np.float32)
    values = np.concatenate((start, rates))
    return MetaState(0, 0, values, np.zeros((2, *values.shape), np.float32), np.ones(start.shape[1], bool))


def train(
    shape: MlpShape,
    tasks: Tasks,
    settings: MetaSettings,
    *,
    on_step: OnStep = lambda _: None,
    state: MetaState | None = None,
) -> Iterator[MetaState]:
    """States, every PIECE steps and at the end of each round; the last is the result. state: one to go on from."""
    import torch

    state = state or first_state(shape, settings)
    device = resolve_device(settings.device)
    values = torch.from_numpy(state.values.copy()).to(device).requires_grad_()
    optimiser = make_adam([values], AdamSettings(settings.outer_rate))
    _restore(optimiser, state)
    if state.step == 0:
        yield state
    size = settings.batch * tasks.regions.size * shape.width
    while state.step < settings.n_steps:
        stop = min(_round_end(state.step, settings), state.step + PIECE)
        if state.rounds < _due(state.step, settings):
            state = _pruned(shape, state, settings)
        loss = _batch_loss(shape, tasks, settings, values, state)
        first = state.step

        def report(step: Progress, first: int = first) -> None:
            on_step(Progress("train", first + step.step, settings.n_steps, step.psnr_db))

        with threads_for(size, device):
            done = descend(
                [values], loss, adam=AdamSettings(settings.outer_rate), iterations=stop - state.step, stage="train",
                on_step=report, psnr_db=psnr_db, keep="last", optimiser=optimiser,
            )  # fmt: skip
        moments = [optimiser.state[values][k].cpu().numpy().copy() for k in ("exp_avg", "exp_avg_sq")]
        now = values.detach().cpu().numpy().copy()
        state = MetaState(stop, state.rounds, now, np.stack(moments), state.mask, done.loss)
        if not np.isfinite(now).all():
            raise ValueError("meta-training diverged; a smaller --inner-rate or --outer-rate helps")
        yield state


def adapt(
    shape: MlpShape,
    start: torch.Tensor,
    *,
    values: torch.Tensor,
    coords: torch.Tensor,
    rates: Sequence[torch.Tensor | float],
    mask: Sequence[torch.Tensor] | None = None,
    clones: int = 1,
    create_graph: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """SGD, one step per rate, on the mean square error of each of G networks at once (Meta-SparseINR's inner loop).

    start [1 or G, P]; values [G, C, N]; coords [G, D, N]; mask: factors of the parameters as layers.unflatten lays
    them out. clones: networks that fit one signal together; the loss of a signal is the mean over all of it.
    Returns (weights [G, P], losses [G] after the last step). create_graph: the result can be differentiated by start.
    """
    import torch

    flat = start.expand(len(values), -1)

    def losses(flat: torch.Tensor) -> torch.Tensor:
        own = unflatten(shape, flat)
        if mask is not None:
            own = [p * m for p, m in zip(own, mask, strict=True)]
        return (forward(shape, own, coords) - values).square().mean(dim=(1, 2)) / clones

    for rate in rates:
        if not flat.requires_grad:
            flat = flat.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(losses(flat).sum(), flat, create_graph=create_graph)
        flat = flat - rate * gradient
    return flat, losses(flat)


def make_prior(
    shape: MlpShape, tasks: Tasks, settings: MetaSettings, state: MetaState, *, kind: str,
    schedule: tuple[int, ...] = (), steps: int = 100, rate: float | None = None,
) -> Prior:  # fmt: skip
    """The prior that a state is. schedule: of the prunings per signal, where the method has them. rate: of the Adam
    that fits cells; None for the default."""
    per_signal = settings.method in PER_SIGNAL
    # the loss of clones is a mean over their signal, a file's cells have each its own
    rates = np.where(state.mask, state.values[1:] / len(tasks.regions), 0).astype(np.float32)
    return Prior(
        body=shape.body, fin=shape.fin, width=shape.width, depth=shape.depth, fout=shape.fout, omega=round(shape.omega),
        features=shape.features, seed=shape.seed, kind=kind, patch=tasks.cell, method=settings.method,
        start=np.where(state.mask, state.start, 0).astype(np.float32), mask=state.mask,
        relative=not per_signal and settings.method != "scratch", schedule=schedule if per_signal else (), steps=steps,
        rate=default_rates(shape.omega)[2] if rate is None else rate, rates=rates if settings.learn_rates else None,
        facts=(
            ("signals", len(tasks.signals)), ("outer steps", state.step), ("rounds", state.rounds),
            ("steps per round", settings.steps_per_round), ("inner steps", settings.inner_steps),
            ("batch", settings.batch), ("seed", settings.seed),
            *([("cells a patch", len(tasks.regions))] if len(tasks.regions) > 1 else []),
        ),
    )  # fmt: skip


def psnr_db(mse: float) -> float:
    return -10 * math.log10(max(mse, 1e-20))


def mask_factors(shape: MlpShape, mask: np.ndarray, device: torch.device) -> list[torch.Tensor] | None:
    import torch

    return None if mask.all() else unflatten(shape, torch.from_numpy(mask[None].astype(np.float32)).to(device))


def _batch_loss(
    shape: MlpShape, tasks: Tasks, settings: MetaSettings, values: torch.Tensor, state: MetaState
) -> Callable[[], torch.Tensor]:
    """A loss for `descend`: of the next batch each time it is called, with its gradient left on `values`."""
    import torch

    step = state.step
    mask = mask_factors(shape, state.mask, values.device)
    clones = len(tasks.regions)

    def loss() -> torch.Tensor:
        nonlocal step
        batch = tasks.draw(np.random.default_rng((settings.seed, step)), settings.batch)
        step += 1
        own, coords = (torch.from_numpy(a).to(values.device) for a in tasks.networks(batch))
        rates = [values[1 + k] for k in range(settings.inner_steps)] if settings.learn_rates else None
        _, losses = adapt(
            shape, values[:1], values=own, coords=coords, rates=rates or [settings.inner_rate] * settings.inner_steps,
            mask=mask, clones=clones, create_graph=not settings.first_order,
        )  # fmt: skip
        total = losses.sum() / settings.batch
        total.backward()
        return total.detach()

    return loss


def _pruned(shape: MlpShape, state: MetaState, settings: MetaSettings) -> MetaState:
    """The next round's mask: globally over all matrices the largest weights stay (whatever their layer's scale, as in
    the paper's code), or, for maml-random, any."""
    bias = biases(shape.sizes)
    scores = np.abs(state.start)
    if settings.method == "maml-random":
        scores = np.random.default_rng((settings.seed, state.rounds, 1)).random(len(bias))
    mask = largest(scores, state.mask & ~bias, settings.schedule[state.rounds]) | bias
    return replace(state, mask=mask, rounds=state.rounds + 1)


def _due(step: int, settings: MetaSettings) -> int:
    """Prunings that come before the training at this step."""
    return 0 if step < settings.outer_steps else 1 + (step - settings.outer_steps) // settings.steps_per_round


def _round_end(step: int, settings: MetaSettings) -> int:
    return settings.outer_steps + _due(step, settings) * settings.steps_per_round


def _restore(optimiser: torch.optim.Adam, state: MetaState) -> None:
    import torch

    if state.step == 0:
        return
    mean, square = (torch.from_numpy(m.copy()) for m in state.moments)
    kept = {"step": torch.tensor(float(state.step)), "exp_avg": mean, "exp_avg_sq": square}
    optimiser.load_state_dict({"state": {0: kept}, "param_groups": optimiser.state_dict()["param_groups"]})
