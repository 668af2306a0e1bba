"""Turns parameters and a loss into fitted parameters: the training loop of the four works, and the choice of device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from .fields.base import OnStep, Progress

if TYPE_CHECKING:
    import torch

__all__ = [
    "SERIAL_VALUES",
    "AdamSettings",
    "DescentState",
    "FitReport",
    "Keeper",
    "descend",
    "flushed_denormals",
    "make_adam",
    "resolve_device",
    "threads_for",
]

SCHEDULES = ("constant", "cosine", "drops")
KEEPS = ("best", "last")
LAST_RATE = 0.01  # of a cosine schedule, as a fraction of the first
DROP_EVERY, DROP = 50, math.exp(-0.1)  # drops: MH-ReLU's schedule
SERIAL_VALUES = 2**18  # of one layer: threads_for
# A look at the loss every so many steps: on a GPU each one waits for the device, and on any device a new best
# copies all parameters.
LOOK_EVERY = 10


@dataclass(frozen=True)
class AdamSettings:
    """Adam with the papers' defaults (betas .9 and .999, no weight decay)."""

    learning_rate: float = 1e-4
    schedule: str = "constant"
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule {self.schedule!r}: wanted one of {', '.join(SCHEDULES)}")


@dataclass(frozen=True)
class FitReport:
    """loss: of the parameters kept. steps: optimiser steps taken."""

    loss: float
    steps: int


@dataclass(frozen=True)
class DescentState:
    """A descent before a step, from which it goes on as if it had not been cut.

    parameters, and Adam's means and squares of their gradients; best: the parameters of best_loss, which was seen at
    best_step, or () where the last are wanted.
    """

    step: int
    parameters: tuple[np.ndarray, ...]
    means: tuple[np.ndarray, ...]
    squares: tuple[np.ndarray, ...]
    best: tuple[np.ndarray, ...]
    best_loss: float
    best_step: int


class Keeper(Protocol):
    """Where the state of a long descent goes, and comes from after a cut."""

    def load(self) -> DescentState | None: ...
    def due(self) -> bool:
        """Asked before every step: whether to save now."""

    def save(self, state: DescentState) -> None: ...


def resolve_device(name: str) -> torch.device:
    """'auto', 'cpu', 'cuda', 'cuda:N' or 'mps' -> a device that is there. Raises ValueError."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in name and not (index.isascii() and index.isdigit())):
        raise ValueError(f"--device {name}: wanted auto, cpu, cuda, cuda:N or mps")
    if kind != "cuda" and index not in ("", "0"):
        raise ValueError(f"--device {name}: there is one {kind} device")
    if kind == "cuda":
        found = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(index or 0) >= found:
            raise ValueError(f"--device {name}: this machine has {found} CUDA devices that torch can use")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"--device {name}: this machine has no MPS device that torch can use")
    return torch.device(name)


def descend(
    parameters: Sequence[torch.Tensor],
    loss: Callable[[], torch.Tensor],
    *,
    adam: AdamSettings,
    iterations: int,
    stage: str,
    on_step: OnStep,
    time_limit_s: float | None = None,
    psnr_db: Callable[[float], float] | None = None,
    keep: str = "best",
    optimiser: torch.optim.Adam | None = None,
    patience: int | None = None,
    keeper: Keeper | None = None,
) -> FitReport:
    """Minimise by Adam, in place; at the end the parameters are the best of those looked at, or (keep) the last.

    loss: leaves gradients on the parameters (calls backward itself, so that it may do so piece by piece) and
    returns the detached loss. It may ignore `parameters` it has no use for. psnr_db: loss -> PSNR to report.
    keep: 'best' or 'last', one of KEEPS. The loss at iterations = n is that which a loop of n + 1 steps sees last.
    optimiser: make_adam's, of the same parameters, to go on from; None starts anew.
    patience: stop where the best loss looked at is so many steps old (ENRP's long runs). keeper: saves the state.
    The same start gives the same result on one machine with the same number of threads.
    """
    import torch

    if keep not in KEEPS:
        raise ValueError(f"keep {keep!r}: wanted one of {', '.join(KEEPS)}")
    started = time.monotonic()
    parameters = [p for p in parameters if p.numel()]
    optimiser = optimiser or make_adam(parameters, adam)
    best, best_loss, best_step, value, timed_out, step, first = None, math.inf, 0, math.inf, False, 0, 0
    if keeper is not None and (state := keeper.load()) is not None:
        first, best_loss, best_step = state.step, state.best_loss, state.best_step
        best = _restore(parameters, optimiser, state)
    with flushed_denormals():
        for step in range(first, iterations + 1):
            timed_out = time_limit_s is not None and time.monotonic() - started >= time_limit_s
            last = step == iterations or timed_out or (patience is not None and step - best_step >= patience)
            if keeper is not None and step > first and not last and keeper.due():
                keeper.save(_state(parameters, optimiser, best, step=step, best_loss=best_loss, best_step=best_step))
            optimiser.zero_grad(set_to_none=True)
            current = loss()
            if last or step % LOOK_EVERY == 0:
                value = float(current)
                if value < best_loss:  # False for NaN: a diverged fit goes back to the last good parameters
                    best_loss, best_step = value, step
                    best = None if last or keep == "last" else [p.detach().clone() for p in parameters]
                seen = (psnr_db(best_loss), psnr_db(value)) if psnr_db else ()
                on_step(Progress(stage, step, iterations, *seen))
            if last:
                break
            rate = adam.learning_rate * _rate(adam.schedule, step, iterations)
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        if best is not None:
            with torch.no_grad():
                for p, kept in zip(parameters, best, strict=True):
                    p.copy_(kept)
    optimiser.zero_grad(set_to_none=True)
    return FitReport(value if keep == "last" else best_loss, step)


def _state(
    parameters: Sequence[torch.Tensor],
    optimiser: torch.optim.Adam,
    best: Sequence[torch.Tensor] | None,
    *,
    step: int,
    best_loss: float,
    best_step: int,
) -> DescentState:
    def arrays(tensors: Iterable[torch.Tensor]) -> tuple[np.ndarray, ...]:
        return tuple(t.detach().cpu().numpy().copy() for t in tensors)

    means, squares = (arrays(optimiser.state[p][k] for p in parameters) for k in ("exp_avg", "exp_avg_sq"))
    return DescentState(step, arrays(parameters), means, squares, arrays(best or ()), best_loss, best_step)


def _restore(
    parameters: Sequence[torch.Tensor], optimiser: torch.optim.Adam, state: DescentState
) -> list[torch.Tensor] | None:
    """The best parameters of the state, where it has them."""
    import torch

    with torch.no_grad():
        for p, kept in zip(parameters, state.parameters, strict=True):
            p.copy_(torch.from_numpy(kept))
    moments = {
        i: {"step": torch.tensor(float(state.step)), "exp_avg": torch.from_numpy(m), "exp_avg_sq": torch.from_numpy(s)}
        for i, (m, s) in enumerate(zip(state.means, state.squares, strict=True))
    }
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    best = [torch.from_numpy(b).to(p.device) for b, p in zip(state.best, parameters, strict=False)]
    return best or None


def _rate(schedule: str, step: int, iterations: int) -> float:
    """Factor of the learning rate in a step."""
    if schedule == "constant":
        return 1.0
    if schedule == "drops":
        return DROP ** (step // DROP_EVERY)
    done = step / max(iterations, 1)
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * done))


def make_adam(parameters: Sequence[torch.Tensor], adam: AdamSettings) -> torch.optim.Adam:
    """The optimiser that `descend` makes for itself, for those who go on from its state."""
    import torch

    try:  # one pass over memory instead of ten: wide ensembles have millions of parameters
        return torch.optim.Adam(parameters, lr=adam.learning_rate, betas=adam.betas, eps=adam.eps, fused=True)
    except (RuntimeError, TypeError):  # torch before 2.4 on a CPU
        return torch.optim.Adam(parameters, lr=adam.learning_rate, betas=adam.betas, eps=adam.eps)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Adam's moments of converged cells sink into denormals, which are up to 100 times slower on CPUs."""
    import torch

    before = (torch.tensor([1e-39]) * 1).item() == 0  # torch tells no other way whether the mode is on
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


@contextmanager
def threads_for(values: int, device: torch.device) -> Iterator[None]:
    """Let torch use one thread for a while where a layer has few values: on a CPU several would wait for each other
    longer than they work."""
    import torch

    before = torch.get_num_threads()
    if values < SERIAL_VALUES and device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
