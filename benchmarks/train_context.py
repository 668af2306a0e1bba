"""Trains the context network of pictures and writes the package's context_N.npz.

    python benchmarks/train_context.py PHOTO_DIR [OUT] [--steps N] [--from FILE] [--checkpoint FILE]

Photos are halved until no side is over 1,024 and coded at steps from fine to coarse under both tunes, some in gray and
some with cells of 8 or 32 samples; the tile model itself says what the network would have seen of every code. The
network gives one number, between whose neighbouring rows of symbol probabilities is interpolated while training: rows
and network are learned together, by the bits they cost. In the end everything is rounded to whole numbers. Prints the
digest that priors/context.py pins. Ctrl-C keeps the checkpoint; the same command goes on from it.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from inrcodec.entropy.alphabet import N_SYMBOLS, split
from inrcodec.entropy.learned import (
    ACTIVATION_BITS,
    N_COLOURS,
    N_FEATURES,
    N_LEARNED_CLASSES,
    POSITIONS,
    ContextNetwork,
    LearnedTile,
)
from inrcodec.fields.cosine import CosineField
from inrcodec.grid import Grid
from inrcodec.priors import context
from inrcodec.priors.signs import sign_network
from inrcodec.settings import EncodeSettings
from inrcodec.signals import SignalMeta

HIDDEN = (48, 24)
WEIGHT_BITS = 8
LIMIT = 1023
STEPS = (6 / 255, 150 / 255)  # quantiser steps, log-uniform
PER_PHOTO = 8  # encodings: tunes in turn; one of them gray, two with other cells
KEPT, KEPT_QUIET = 0.08, 0.01  # share of codes recorded; of those around which all is 0
SYMBOLS = 28  # larger ones are rare: a geometric tail
ROW_TOTAL = 2**15  # one coded symbol weighs tables.INCREMENT against it
BATCH, RATE = 8192, 4e-3
UNIT = 2**ACTIVATION_BITS


class Recorder:
    """Stands in for the context network: keeps a sample of the features it is asked about."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.features: list[np.ndarray] = []
        self.places: list[np.ndarray] = []
        self.symbols: list[np.ndarray] = []
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
        return np.zeros(features.shape[1:], np.int16)

    def code(self, contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        if len(contexts) and contexts[0] >= N_LEARNED_CLASSES:  # signs
            return values
        symbols, _ = split(np.abs(values[self._picked]))
        self.symbols.append(np.minimum(symbols, SYMBOLS - 1).astype(np.uint8))
        return values


def record(photos: list[Path], seed: int) -> tuple[torch.Tensor, ...]:
    """features uint8 [N, N_FEATURES], places int16 [N], symbols uint8 [N], weights float32 [N]."""
    rng = np.random.default_rng(seed)
    recorder = Recorder(rng)
    for path in photos:
        picture = Image.open(path).convert("RGB")
        while max(picture.size) > 1024:
            picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
        picture = picture.crop((0, 0, picture.width & ~31, picture.height & ~31))  # cells of one size
        for k in range(PER_PHOTO):
            chosen = picture.convert("L") if k == 7 else picture
            samples = np.asarray(chosen, np.float32).reshape(*chosen.size[::-1], -1) / 255
            cells = {5: 8, 6: 32}.get(k, 16)
            step = math.exp(rng.uniform(*np.log(STEPS)))
            codes = quantised(samples, ("psnr", "perceptual")[k % 2], cells, step)
            tile = LearnedTile(codes, None, recorder, sign_network())  # type: ignore[arg-type]
            n_diagonals = sum(codes.shape[1:3]) - 1
            tile.run(0, n_diagonals, tile.stops(0, n_diagonals), recorder.code)
        print(path.name, *picture.size, f"{sum(map(len, recorder.symbols)):,} codes", flush=True)
    parts = (recorder.features, recorder.places, recorder.symbols, recorder.weights)
    return tuple(torch.from_numpy(np.concatenate(p)) for p in parts)


def quantised(samples: np.ndarray, tune: str, side: int, step: float) -> np.ndarray:
    """Codes of the heads with cells of about `side` samples."""
    meta = SignalMeta("image", samples.shape[:2], samples.shape[2], "u1", "rgb" if samples.shape[2] == 3 else "gray")
    settings = EncodeSettings(tune=tune)
    grid = Grid.uniform(meta.shape, tuple(max(1, round(n / side)) for n in meta.shape))
    field = CosineField(CosineField.plan_spec(meta, grid, settings, samples), meta, grid)
    fitted = field.fit(samples, settings, lambda _: None)
    return field.quantize(fitted, field.quantiser(fitted, settings, step * fitted.tuning.first_step))[-1]


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
        self.rows = nn.Parameter(magnitude * torch.log(mean / (1 + mean))[:, None])
        with torch.no_grad():
            self.last.bias.fill_(8.0)
            self.last.weight.mul_(2)

    def forward(self, features: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Log-probabilities [N, SYMBOLS]."""
        y = torch.relu(self.first(features.float() / UNIT) + self.place[places.long()])
        s = self.last(torch.relu(self.second(y)))[:, 0].clamp(0, N_LEARNED_CLASSES - 1.001)
        low = s.long()
        share = (s - low)[:, None]
        rows = torch.softmax(self.rows, 1)
        return torch.log((1 - share) * rows[low] + share * rows[low + 1] + 1e-9)


def bits(network: FloatNetwork, data: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Mean bits per code, without signs and extra bits."""
    features, places, symbols, weights = data
    cost = -network(features, places).gather(1, symbols.long()[:, None])[:, 0] / math.log(2)
    return (cost * weights).sum() / weights.sum()


def train(network: FloatNetwork, data: tuple[torch.Tensor, ...], held: tuple[torch.Tensor, ...], args) -> None:  # type: ignore[no-untyped-def]
    optimiser = torch.optim.Adam(network.parameters())
    began, first = time.time(), load(args.checkpoint, network, optimiser)
    generator = torch.Generator().manual_seed(first)
    for step in range(first, args.steps):
        for group in optimiser.param_groups:
            group["lr"] = (
                RATE * min(1, (step + 1) / 100) * (0.01 + 0.99 * (1 + math.cos(math.pi * step / args.steps)) / 2)
            )
        pick = torch.randint(0, len(data[1]), (BATCH,), generator=generator)
        loss = bits(network, tuple(d[pick] for d in data))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % 2000 == 0:
            save(args.checkpoint, network, optimiser, step + 1)
            left = (time.time() - began) / (step + 1 - first) * (args.steps - step - 1)
            with torch.no_grad():
                print(f"step {step + 1}: {bits(network, held):.5f} bits a code held out, {left:.0f} s left", flush=True)


def save(path: Path, network: FloatNetwork, optimiser: torch.optim.Optimizer, step: int) -> None:
    arrays = {f"w.{k}": v.detach().numpy() for k, v in network.named_parameters()}
    for (name, _), state in zip(network.named_parameters(), optimiser.state.values(), strict=True):
        arrays |= {f"m.{name}": state["exp_avg"].numpy(), f"v.{name}": state["exp_avg_sq"].numpy()}
    part = path.with_suffix(".part.npz")
    np.savez(part, step=step, **arrays)
    part.replace(path)


def load(path: Path, network: FloatNetwork, optimiser: torch.optim.Optimizer | None) -> int:
    """The step to go on from."""
    if not path.exists():
        return 0
    with np.load(path) as saved, torch.no_grad():
        for name, p in network.named_parameters():
            p.copy_(torch.from_numpy(saved[f"w.{name}"]))
            if optimiser is not None:
                optimiser.state[p] = {
                    "step": torch.tensor(float(saved["step"])),
                    "exp_avg": torch.from_numpy(saved[f"m.{name}"]),
                    "exp_avg_sq": torch.from_numpy(saved[f"v.{name}"]),
                }
        return int(saved["step"])


def rounded(network: FloatNetwork) -> tuple[ContextNetwork, np.ndarray]:
    """The network in whole numbers, and its starting rows uint16 [N_LEARNED_CLASSES, N_SYMBOLS]."""
    scale = 2**WEIGHT_BITS

    def whole(x: torch.Tensor, factor: float, kind: type) -> np.ndarray:
        return np.rint(x.detach().numpy().astype(np.float64) * factor).astype(kind)

    layers = (network.first, network.second, network.last)
    place = whole(network.place + network.first.bias, scale * UNIT, np.int32)
    made = ContextNetwork(
        weights=(
            whole(layers[0].weight, scale, np.int16),
            whole(layers[1].weight, scale, np.int16),
            whole(layers[2].weight[0], scale, np.int16),
        ),
        place=place.reshape(POSITIONS, POSITIONS, N_COLOURS, 2, -1),
        bias=tuple(whole(layer.bias, scale * UNIT, np.int32) for layer in layers[1:]),
        shift=(WEIGHT_BITS, WEIGHT_BITS, WEIGHT_BITS + ACTIVATION_BITS),
        limit=LIMIT,
    )
    rows = np.zeros((N_LEARNED_CLASSES, N_SYMBOLS))
    p = torch.softmax(network.rows, 1).detach().numpy()
    rows[:, : SYMBOLS - 1] = p[:, :-1]
    tail = 0.7 ** np.arange(N_SYMBOLS - SYMBOLS + 1)
    rows[:, SYMBOLS - 1 :] = p[:, -1:] * tail / tail.sum()
    return made, np.maximum(np.rint(rows * ROW_TOTAL), np.arange(N_SYMBOLS) == 0).astype(np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path(context.__file__).parent / context.FILE)
    parser.add_argument("--steps", type=int, default=60_000)
    parser.add_argument("--from", dest="start", type=Path, help="a checkpoint whose network to start from")
    parser.add_argument("--checkpoint", type=Path, default=Path("build/context.npz"))
    args = parser.parse_args()
    args.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    photos = sorted(args.photos.glob("*.jpg"))
    held_out = photos[5::11]
    held = record(held_out, seed=1)
    data = record([p for p in photos if p not in held_out], seed=0)
    network = FloatNetwork()
    if args.start:
        load(args.start, network, None)
    train(network, data, held, args)
    made, rows = rounded(network)
    np.savez_compressed(args.out, **context.arrays(made, rows))
    print(f"{args.out}: sha256 {context.digest(context.arrays(made, rows))}")


if __name__ == "__main__":
    main()
