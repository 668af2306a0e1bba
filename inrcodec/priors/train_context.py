"""Turns what was recorded of photos into a context network: what priors/context_N.npz holds, trained (torch).

The network gives one number, between whose neighbouring rows of symbol probabilities is interpolated while training:
rows and network are learned together, by the bits they cost. In the end everything is rounded to whole numbers.

State goes out and in as numpy arrays; the codes of step s are drawn from (seed, s), so that training that was stopped
goes on as if it had not been.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn.functional import embedding

from ..entropy.alphabet import N_SYMBOLS
from ..entropy.exact import N_COLOURS, POSITIONS
from ..entropy.learned import ACTIVATION_BITS, N_FEATURES, N_LEARNED_CLASSES, ContextNetwork
from ..errors import FormatError
from ..fields.base import OnStep, Progress
from ..fitting import flushed_denormals, resolve_device
from .recording import PER_PHOTO, SYMBOLS, Record, split_off

__all__ = [
    "DEFAULT_STEPS",
    "ContextState",
    "FloatNetwork",
    "bits",
    "fingerprint",
    "first_state",
    "pack_state",
    "rounded",
    "train",
    "training_data",
    "unpack_state",
]

DEFAULT_STEPS = 60_000
HIDDEN = (48, 24)
WEIGHT_BITS = 8
LIMIT = 1023
ROW_TOTAL = 2**15  # one coded symbol weighs tables.INCREMENT against it
BATCH, RATE = 8192, 4e-3
PIECE = 2000  # steps between two states handed out
REPORT_EVERY = 10
UNIT = 2**ACTIVATION_BITS

Data = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class FloatNetwork(nn.Module):
    """The network before rounding, and the logarithms of its rows."""

    def __init__(self) -> None:
        super().__init__()
        first, second = HIDDEN
        self.first, self.second, self.last = (
            nn.Linear(N_FEATURES, first),
            nn.Linear(first, second),
            nn.Linear(second, 1),
        )
        self.place = nn.Parameter(torch.zeros(POSITIONS * POSITIONS * N_COLOURS * 2, first))
        mean = 0.02 * 2 ** (torch.arange(N_LEARNED_CLASSES) * (13 / N_LEARNED_CLASSES))  # geometric rows to begin with
        magnitude = torch.tensor([*range(16), *(16 * 2 ** (i / 2) for i in range(SYMBOLS - 16))])
        rows = magnitude * torch.log(mean / (1 + mean))[:, None]
        self.rows = nn.Parameter(torch.cat([rows, rows]))  # of the even quantiser, then of the odd one
        with torch.no_grad():
            self.last.bias.fill_(8.0)
            self.last.weight.mul_(2)

    def forward(self, features: torch.Tensor, places: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [N, SYMBOLS]."""
        # embedding, not [places]: the gradients of that one depend on how threads take turns
        y = torch.relu(self.first(features.float() / UNIT) + embedding(places.long(), self.place))
        s = self.last(torch.relu(self.second(y)))[:, 0].clamp(0, N_LEARNED_CLASSES - 1.001)
        low = s.long()
        share = (s - low)[:, None]
        low = low + N_LEARNED_CLASSES * odd.long()
        rows = torch.softmax(self.rows, 1)
        return torch.log((1 - share) * embedding(low, rows) + share * embedding(low + 1, rows) + 1e-9)


def bits(network: FloatNetwork, data: Data) -> torch.Tensor:
    """Mean bits per code, without signs and extra bits."""
    features, places, symbols, odd, weights = data
    cost = -network(features, places, odd).gather(1, symbols.long()[:, None])[:, 0] / math.log(2)
    return (cost * weights).sum() / weights.sum()


@dataclass(frozen=True)
class ContextState:
    """values, means, squares: the network's parameters and Adam's moments, float32 by name. cost: mean bits of the
    codes held out, at the last step that was measured. n_codes: learned from."""

    step: int
    values: dict[str, np.ndarray]
    means: dict[str, np.ndarray]
    squares: dict[str, np.ndarray]
    cost: float = math.inf
    n_codes: int = 0


def first_state(seed: int) -> ContextState:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        values = {k: p.detach().numpy().copy() for k, p in FloatNetwork().named_parameters()}
    zero = {k: np.zeros_like(v) for k, v in values.items()}
    return ContextState(0, values, zero, zero)


def training_data(records: Sequence[Record], device: str) -> tuple[Data, Data]:
    """Records of recording.codings -> what is learned from, and what costs are those of, on the device: of pictures
    held out, or, where there are none, the same. Raises ValueError for a device that is not there."""
    target = resolve_device(device)
    learned, held_out = split_off(records, PER_PHOTO)
    data = _joined(learned, target)
    return data, _joined(held_out, target) if held_out else data


def _joined(records: Sequence[Record], device: torch.device) -> Data:
    def joined(name: str) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([getattr(r, name) for r in records])).to(device)

    return joined("features"), joined("places"), joined("symbols"), joined("odd"), joined("weights")


def train(
    state: ContextState, data: Data, held: Data, *, steps: int, seed: int, on_step: OnStep = lambda _: None
) -> Iterator[ContextState]:
    """States, every PIECE steps and at the end; the last is the result. data, held: on the device to train on. Where
    on_step raises KeyboardInterrupt, the state at that step comes before it, with the cost that was known."""
    device = data[0].device
    network = FloatNetwork().to(device)
    optimiser = torch.optim.Adam(network.parameters())
    _restore(network, optimiser, state)
    while state.step < steps:
        stop = min(steps, state.step + PIECE)
        known = f", {state.cost:.4f} bits a code" if math.isfinite(state.cost) else ""
        with flushed_denormals():
            for step in range(state.step, stop):
                if step % REPORT_EVERY == 0:
                    try:
                        on_step(Progress(f"train{known}", step, steps))
                    except KeyboardInterrupt:  # between two steps: nothing is half done
                        if step > state.step:
                            state = replace(
                                _state(network, optimiser), step=step, cost=state.cost, n_codes=len(data[1])
                            )
                        yield state
                        raise
                warm, share = min(1, (step + 1) / 100), (1 + math.cos(math.pi * step / steps)) / 2
                for group in optimiser.param_groups:
                    group["lr"] = RATE * warm * (0.01 + 0.99 * share)
                chosen = np.random.default_rng((seed, step)).integers(len(data[1]), size=BATCH)
                pick = torch.from_numpy(chosen).to(device)
                features, places, symbols, odd, weights = (d[pick] for d in data)
                loss = bits(network, (features, places, symbols, odd, weights))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            state = replace(_state(network, optimiser), step=stop, cost=_cost(network, held), n_codes=len(data[1]))
        yield state


def _cost(network: FloatNetwork, data: Data) -> float:
    """bits, piece by piece."""
    total = weight = 0.0
    with torch.no_grad():
        for features, places, symbols, odd, weights in zip(*(d.split(2**18) for d in data), strict=True):
            share = float(weights.sum())
            total += share * float(bits(network, (features, places, symbols, odd, weights)))
            weight += share
    return total / weight


def _state(network: FloatNetwork, optimiser: torch.optim.Optimizer) -> ContextState:
    moments = {name: optimiser.state[p] for name, p in network.named_parameters()}
    return ContextState(
        0,
        {k: p.detach().cpu().numpy().copy() for k, p in network.named_parameters()},
        {k: m["exp_avg"].cpu().numpy().copy() for k, m in moments.items()},
        {k: m["exp_avg_sq"].cpu().numpy().copy() for k, m in moments.items()},
    )


def _restore(network: FloatNetwork, optimiser: torch.optim.Optimizer, state: ContextState) -> None:
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.copy_(torch.from_numpy(state.values[name]))
            if state.step:
                optimiser.state[p] = {
                    "step": torch.tensor(float(state.step)),
                    "exp_avg": torch.from_numpy(state.means[name].copy()).to(p.device),
                    "exp_avg_sq": torch.from_numpy(state.squares[name].copy()).to(p.device),
                }


def fingerprint(records: str, *, steps: int) -> str:
    """Of everything that the result depends on but the device: hex. records: their mark."""
    return hashlib.sha256(repr((HIDDEN, BATCH, RATE, steps, records)).encode()).hexdigest()


def pack_state(state: ContextState, mark: str) -> bytes:
    """mark: the fingerprint of the training."""
    file = io.BytesIO()
    parts = {"w": state.values, "m": state.means, "v": state.squares}
    arrays = {f"{part}.{name}": a for part, own in parts.items() for name, a in own.items()}
    arrays["mark"] = np.frombuffer(mark.encode("ascii"), np.uint8)
    np.savez(file, counts=np.array([state.step, state.n_codes]), cost=np.array(state.cost), **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def unpack_state(data: bytes, mark: str, like: ContextState) -> ContextState:
    """like: any state, whose shapes are wanted. Raises FormatError for what is no such file, ValueError for one of
    another training."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            same = file["mark"].tobytes() == mark.encode("ascii")
            parts = [{name: file[f"{part}.{name}"] for name in like.values} for part in "wmv"] if same else []
            (step, n_codes), cost = (int(n) for n in file["counts"]), float(file["cost"])
    except (ValueError, TypeError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        raise FormatError("not a checkpoint of a training of contexts, or a damaged one") from None
    if not same:
        raise ValueError("a checkpoint of other pictures or settings")
    for own in parts:
        for name, a in own.items():
            if a.shape != like.values[name].shape or a.dtype != np.float32:
                raise FormatError(f"checkpoint: {name} of {a.dtype} {a.shape}, wanted {like.values[name].shape}")
    values, means, squares = parts
    return ContextState(step, values, means, squares, cost, n_codes)


def rounded(state: ContextState) -> tuple[ContextNetwork, np.ndarray]:
    """The network in whole numbers, and its starting rows uint16 [2 · N_LEARNED_CLASSES, N_SYMBOLS]. Raises ValueError
    where sums of it may not be exact."""
    network = FloatNetwork()
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.copy_(torch.from_numpy(state.values[name]))
    scale = 2**WEIGHT_BITS

    def whole(x: torch.Tensor, factor: float, kind: type) -> np.ndarray:
        result: np.ndarray = np.rint(x.detach().numpy().astype(np.float64) * factor).astype(kind)
        return result

    layers = (network.first, network.second, network.last)
    place = whole(network.place + network.first.bias, scale * UNIT, np.int32)
    made = ContextNetwork(
        weights=(
            whole(layers[0].weight, scale, np.int16),
            whole(layers[1].weight, scale, np.int16),
            whole(layers[2].weight[0], scale, np.int16),
        ),
        place=place.reshape(POSITIONS, POSITIONS, N_COLOURS, 2, -1),
        bias=(whole(layers[1].bias, scale * UNIT, np.int32), whole(layers[2].bias, scale * UNIT, np.int32)),
        shift=(WEIGHT_BITS, WEIGHT_BITS, WEIGHT_BITS + ACTIVATION_BITS),
        limit=LIMIT,
    )
    rows = np.zeros((2 * N_LEARNED_CLASSES, N_SYMBOLS))
    shares = torch.softmax(network.rows, 1).detach().numpy()
    rows[:, : SYMBOLS - 1] = shares[:, :-1]
    tail = 0.7 ** np.arange(N_SYMBOLS - SYMBOLS + 1)
    rows[:, SYMBOLS - 1 :] = shares[:, -1:] * tail / tail.sum()
    return made, np.maximum(np.rint(rows * ROW_TOTAL), np.arange(N_SYMBOLS) == 0).astype(np.uint16)
