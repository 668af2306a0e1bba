"""Turns photos into a context network: what priors/context_N.npz holds, trained (torch).

Photos are halved until no side is over 1,024 and coded at steps from fine to coarse under both tunes, some in gray and
some with cells of 8 or 32 samples; the tile model itself says what the network would have seen of every code. The
network gives one number, between whose neighbouring rows of symbol probabilities is interpolated while training: rows
and network are learned together, by the bits they cost. In the end everything is rounded to whole numbers.

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
from PIL import Image
from torch import nn
from torch.nn.functional import embedding

from ..entropy.alphabet import N_SYMBOLS, split
from ..entropy.exact import N_COLOURS, POSITIONS
from ..entropy.learned import (
    ACTIVATION_BITS,
    N_FEATURES,
    N_LEARNED_CLASSES,
    ContextNetwork,
    LearnedTile,
)
from ..errors import FormatError
from ..fields.base import OnStep, Progress
from ..fields.cosine import CosineField
from ..fitting import flushed_denormals, resolve_device
from ..grid import Grid
from ..settings import EncodeSettings
from ..signals import Signal, SignalMeta
from .signs import sign_network

__all__ = [
    "DEFAULT_STEPS",
    "ContextState",
    "FloatNetwork",
    "Recorder",
    "bits",
    "fingerprint",
    "first_state",
    "pack_state",
    "quantised",
    "record",
    "rounded",
    "shrunk",
    "split_off",
    "states",
    "train",
    "unpack_state",
]

DEFAULT_STEPS = 60_000
HIDDEN = (48, 24)
WEIGHT_BITS = 8
LIMIT = 1023
STEPS = (6 / 255, 150 / 255)  # quantiser steps, log-uniform
PER_PHOTO = 8  # encodings: tunes in turn; one of them gray, two with other cells
KEPT, KEPT_QUIET = 0.08, 0.01  # share of codes recorded; of those around which all is 0
SYMBOLS = 28  # larger ones are rare: a geometric tail
ROW_TOTAL = 2**15  # one coded symbol weighs tables.INCREMENT against it
BATCH, RATE = 8192, 4e-3
PIECE = 2000  # steps between two states handed out
REPORT_EVERY = 10
LARGEST_SIDE = 1024
MULTIPLE = 32  # of samples: cells of one size
UNIT = 2**ACTIVATION_BITS

MARK = 2**10  # contexts that the recorder gives count in these: above all real ones

Data = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def shrunk(signal: Signal) -> Image.Image:
    """A picture as it is coded for training: RGB of 8 bits, alpha left out, sides of whole cells and at most
    LARGEST_SIDE. Raises ValueError for what is no picture, or too small."""
    if signal.meta.kind != "image":
        raise ValueError(f"{signal.meta.kind}: contexts are learned from pictures")
    samples = signal.samples[..., : signal.meta.channels - signal.meta.alpha]
    colours = samples if samples.shape[-1] == 3 else samples[..., :1].repeat(3, axis=-1)
    picture = Image.fromarray(np.rint(255 * np.clip(colours, 0, 1)).astype(np.uint8))
    while max(picture.size) > LARGEST_SIDE:
        picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
    if min(picture.size) < MULTIPLE:
        raise ValueError(f"picture of {picture.width} × {picture.height} samples, wanted {MULTIPLE} × {MULTIPLE}")
    return picture.crop((0, 0, picture.width // MULTIPLE * MULTIPLE, picture.height // MULTIPLE * MULTIPLE))


class Recorder:
    """Stands in for the context network: keeps a sample of the features it is asked about. The class it answers is
    which code of the pass it is, so that it knows the codes again wherever they come."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.features: list[np.ndarray] = []
        self.places: list[np.ndarray] = []
        self.symbols: list[np.ndarray] = []
        self.odd: list[np.ndarray] = []
        self.weights: list[np.ndarray] = []
        self._picked = np.zeros(0, np.int64)

    def classes(self, features: np.ndarray, u: np.ndarray, v: np.ndarray, colour: int, half: int) -> np.ndarray:
        flat = features.reshape(len(features), -1)
        quiet = flat.max(0) == 0
        self._picked = np.flatnonzero(self._rng.random(len(quiet)) < np.where(quiet, KEPT_QUIET, KEPT))
        self.features.append(flat[:, self._picked].T.astype(np.uint8))
        place = ((u * POSITIONS + v) * N_COLOURS + min(colour, N_COLOURS - 1)) * 2 + half
        self.places.append(np.repeat(place, features.shape[2])[self._picked].astype(np.int16))
        self.weights.append(np.where(quiet[self._picked], KEPT / KEPT_QUIET, 1).astype(np.float32))
        self.symbols.append(np.zeros(len(self._picked), np.uint8))
        self.odd.append(np.zeros(len(self._picked), np.uint8))
        return MARK * (1 + np.arange(len(quiet))).reshape(features.shape[1:])

    def code(self, contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        if not len(contexts) or contexts[0] < MARK:  # signs
            return values
        at = contexts // MARK - 1
        place = np.searchsorted(self._picked, at)
        known = np.append(self._picked, -1)[place] == at
        symbols, _ = split(np.abs(values[known]))
        self.symbols[-1][place[known]] = np.minimum(symbols, SYMBOLS - 1)
        self.odd[-1][place[known]] = contexts[known] % MARK >= N_LEARNED_CLASSES
        return values


def record(pictures: Sequence[Image.Image], seed: int, on_step: OnStep = lambda _: None) -> Data:
    """features uint8 [N, N_FEATURES], places int16 [N], symbols and whether of the odd quantiser uint8 [N], weights
    float32 [N]."""
    rng = np.random.default_rng(seed)
    recorder = Recorder(rng)
    for i, picture in enumerate(pictures):
        for k in range(PER_PHOTO):
            on_step(Progress("record", i * PER_PHOTO + k, len(pictures) * PER_PHOTO))
            chosen = picture.convert("L") if k == 7 else picture
            samples = np.asarray(chosen, np.float32).reshape(*chosen.size[::-1], -1) / 255
            cells = {5: 8, 6: 32}.get(k, 16)
            step = math.exp(rng.uniform(*np.log(STEPS)))
            codes, dependent = quantised(samples, ("psnr", "perceptual")[k % 2], cells, step)
            tile = LearnedTile(codes, None, recorder, sign_network(), dependent=dependent)  # type: ignore[arg-type]
            n_diagonals = sum(codes.shape[1:3]) - 1
            tile.run(0, n_diagonals, tile.stops(0, n_diagonals), recorder.code)
    features, places, symbols, odd, weights = (
        torch.from_numpy(np.concatenate(p))
        for p in (recorder.features, recorder.places, recorder.symbols, recorder.odd, recorder.weights)
    )
    return features, places, symbols, odd, weights


def quantised(samples: np.ndarray, tune: str, side: int, step: float) -> tuple[np.ndarray, bool]:
    """Codes of the heads with cells of about `side` samples, and whether they are dependent."""
    meta = SignalMeta("image", samples.shape[:2], samples.shape[2], "u1", "rgb" if samples.shape[2] == 3 else "gray")
    settings = EncodeSettings(tune=tune)
    grid = Grid.uniform(meta.shape, tuple(max(1, round(n / side)) for n in meta.shape))
    field = CosineField(CosineField.plan_spec(meta, grid, settings, samples), meta, grid)
    fitted = field.fit(samples, settings, lambda _: None)
    codes = field.quantize(fitted, field.quantiser(fitted, step * fitted.tuning.first_step))[-1]
    return codes, field.layouts[-1].dependent


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
    codes held out, at this step. n_codes: learned from."""

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


def states(
    pictures: Sequence[Image.Image],
    *,
    steps: int,
    seed: int,
    device: str,
    on_step: OnStep = lambda _: None,
    state: ContextState | None = None,
) -> Iterator[ContextState]:
    """Records the pictures, which is the same work every time, and trains on them, as `train` does. Every eleventh
    picture is held out; with fewer than six, none is, and costs are those of the codes learned from."""
    target = resolve_device(device)
    learned, held_out = split_off(pictures)
    data = _moved(record(learned, 2 * seed, on_step), target)
    held = _moved(record(held_out, 2 * seed + 1, on_step), target) if held_out else data
    yield from train(state or first_state(seed), data, held, steps=steps, seed=seed, on_step=on_step)


def split_off(pictures: Sequence[Image.Image]) -> tuple[list[Image.Image], list[Image.Image]]:
    """Pictures to learn from, and those to measure on."""
    return [p for i, p in enumerate(pictures) if i % 11 != 5], list(pictures[5::11])


def train(
    state: ContextState, data: Data, held: Data, *, steps: int, seed: int, on_step: OnStep = lambda _: None
) -> Iterator[ContextState]:
    """States, every PIECE steps and at the end; the last is the result. data, held: on the device to train on."""
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
                    on_step(Progress(f"train{known}", step, steps))
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


def _moved(data: Data, device: torch.device) -> Data:
    features, places, symbols, odd, weights = (d.to(device) for d in data)
    return features, places, symbols, odd, weights


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


def fingerprint(pictures: Sequence[Image.Image], *, steps: int, seed: int) -> str:
    """Of everything that the result depends on but the device: hex."""
    constants = (HIDDEN, STEPS, PER_PHOTO, KEPT, KEPT_QUIET, SYMBOLS, BATCH, RATE, N_FEATURES, N_LEARNED_CLASSES)
    h = hashlib.sha256(repr((constants, steps, seed)).encode())
    for picture in pictures:
        h.update(repr(picture.size).encode() + picture.tobytes())
    return h.hexdigest()


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
