"""Trains the sign network of pictures and writes the package's signs_N.npz.

    python benchmarks/train_signs.py PHOTO_DIR [OUT] [--steps N] [--cache FILE]

Photos are coded as for the context network, each time turned or mirrored otherwise and at another size; the tile model
itself says what the network would have seen of every sign. Every eleventh photo is held out: watch it, for too long a
training learns the photos by heart. In the end everything is rounded to whole numbers, and each class
starts from the share of surprises it had. Prints the digest that priors/signs.py pins. What was recorded is kept in the
cache, the network beside it now and then: an interrupted training goes on.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from inrcodec.formats.files import read_signal
from PIL import Image
from torch import nn
from torch.nn import functional

from inrcodec.entropy.exact import N_COLOURS, POSITIONS
from inrcodec.entropy.learned import N_LEARNED_CLASSES, LearnedTile
from inrcodec.entropy.signs import CAP, N_SIGN_CLASSES, N_SIGN_FEATURES, SignNetwork
from inrcodec.priors import signs
from inrcodec.priors.recording import MULTIPLE, PER_PHOTO, STEPS, quantised, shrunk
from inrcodec.settings import MAX_SAMPLES

HIDDEN = (160, 32)
KEPT = 40_000  # signs of one encoding
SIZES = (1.0, 0.75, 0.5)  # of a photo's longer side of up to 1,024
MIRRORED = (None, *Image.Transpose)
WEIGHT_BITS, ACTIVATION_BITS, LIMIT = 8, 6, 1023
LOGIT = 0.2  # width of a class
PIECE = 2**16
ROW_TOTAL = 2**12
BATCH, RATE, DECAY, KEPT_EVERY = 4096, 2e-3, 0.02, 2000
HELD_OUT = slice(5, None, 11)

Data = tuple[torch.Tensor, ...]  # features int8 [N, N_SIGN_FEATURES], place int16 [N], size int8 [N], negative bool [N]


class Recorder:
    """Stands in for both networks of a tile; keeps what they would have seen of the signs."""

    def __init__(self) -> None:
        self.parts: list[list[np.ndarray]] = [[], [], [], []]

    def classes(self, features: np.ndarray, place: np.ndarray, size: np.ndarray, *more: int) -> object:
        if more:  # asked for magnitudes
            return np.zeros(features.shape[1:], np.int16)
        for part, x in zip(self.parts, (features, place.astype(np.int16), size.astype(np.int8)), strict=False):
            part.append(x)
        return np.zeros(len(size), np.int16), np.zeros(len(size), bool)

    def code(self, contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        if len(contexts) and contexts[0] >= 2 * N_LEARNED_CLASSES:
            self.parts[3].append(values != 0)
        return values


def record(photos: list[Path], seed: int) -> Data:
    rng = np.random.default_rng(seed)
    found: list[list[np.ndarray]] = [[], [], [], []]
    for path in photos:
        picture = shrunk(read_signal(path, max_samples=MAX_SAMPLES))
        for k in range(PER_PHOTO):
            size, mirrored = rng.choice(SIZES), MIRRORED[rng.integers(len(MIRRORED))]
            chosen = picture.resize(
                (round(picture.width * size), round(picture.height * size)), Image.Resampling.LANCZOS
            )
            chosen = chosen if mirrored is None else chosen.transpose(mirrored)
            chosen = chosen.crop((0, 0, chosen.width // MULTIPLE * MULTIPLE, chosen.height // MULTIPLE * MULTIPLE))
            chosen = chosen.convert("L") if k == 7 else chosen
            samples = np.asarray(chosen, np.float32).reshape(*chosen.size[::-1], -1) / 255
            codes, dependent = quantised(
                samples, ("psnr", "perceptual")[k % 2], {5: 8, 6: 32}.get(k, 16), math.exp(rng.uniform(*np.log(STEPS)))
            )
            recorder = Recorder()
            n = sum(codes.shape[1:3]) - 1
            tile = LearnedTile(codes, None, recorder, recorder, dependent=dependent)  # type: ignore[arg-type]
            tile.run(0, n, tile.stops(0, n), recorder.code)
            parts = [np.concatenate(p) for p in recorder.parts]
            some = rng.permutation(len(parts[3]))[:KEPT]
            for all_, part in zip(found, parts, strict=True):
                all_.append(part[some])
        print(path.name, *picture.size, f"{sum(map(len, found[3])):,} signs", flush=True)
    return tuple(torch.from_numpy(np.concatenate(p)) for p in found)


class FloatNetwork(nn.Module):
    """The network before rounding; its answer is the logarithm of the odds of a negative sign."""

    def __init__(self) -> None:
        super().__init__()
        first, second = HIDDEN
        self.first = nn.Linear(N_SIGN_FEATURES, first, bias=False)
        self.second = nn.Linear(first, second)
        self.last = nn.Linear(second, 1, bias=False)
        self.place = nn.Parameter(torch.zeros(POSITIONS * POSITIONS * N_COLOURS * 2, first))
        self.size = nn.Parameter(torch.zeros(CAP, first).uniform_(-0.1, 0.1))
        with torch.no_grad():
            self.first.weight.mul_(0.5)

    def forward(self, features: torch.Tensor, place: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        x = self.first(features.float())
        about = self.place[place.long()] + self.size[size.long() - 1]
        return self._half(about + x) - self._half(about - x)

    def _half(self, y: torch.Tensor) -> torch.Tensor:
        top = LIMIT / 2**ACTIVATION_BITS
        y = self.second(y.clamp(0, top)).clamp(0, top)
        return self.last(y)[:, 0]


def bits(network: FloatNetwork, data: Data) -> torch.Tensor:
    *seen, negative = data
    return functional.binary_cross_entropy_with_logits(network(*seen), negative.float()) / math.log(2)


def train(network: FloatNetwork, data: Data, held: Data, steps: int, state: Path) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    first = 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        network.load_state_dict(saved["network"])
        optimiser.load_state_dict(saved["optimiser"])
        first = saved["step"]
    for step in range(first, steps):
        for group in optimiser.param_groups:
            drop = 0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2
            group["lr"] = RATE * min(1, (step + 1) / 100) * drop
        # drawn by step: a training that was interrupted goes on as it would have
        pick = torch.randint(0, len(data[3]), (BATCH,), generator=torch.Generator().manual_seed(step))
        loss = bits(network, tuple(d[pick] for d in data))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if (step + 1) % KEPT_EVERY == 0:
            saved = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**saved, "step": step + 1}, state)
            with torch.no_grad():
                held_out = float(bits(network, held))
            print(f"step {step + 1} of {steps}: {held_out:.4f} bits a sign held out", flush=True)


def rounded(network: FloatNetwork) -> SignNetwork:
    scale, unit = 2**WEIGHT_BITS, 2**ACTIVATION_BITS

    def whole(x: torch.Tensor, factor: float, kind: type) -> np.ndarray:
        return np.rint(x.detach().numpy().astype(np.float64) * factor).astype(kind)

    # features are whole numbers: the first layer's sums are in 1 / (scale · unit) right away
    return SignNetwork(
        first=whole(network.first.weight, scale * unit / 4, np.int16),
        place=whole(network.place, scale * unit / 4, np.int32).reshape(POSITIONS, POSITIONS, N_COLOURS, 2, -1),
        size=whole(network.size, scale * unit / 4, np.int32),
        second=whole(network.second.weight, scale, np.int16),
        bias=whole(network.second.bias, scale * unit, np.int32),
        last=whole(-network.last.weight[0], scale / (2 * LOGIT * 4), np.int16),  # above 0: positive
        shift=(WEIGHT_BITS - 2, WEIGHT_BITS, WEIGHT_BITS + ACTIVATION_BITS - 3),
        limit=LIMIT,
    )


def starting_rows(network: SignNetwork, data: Data, held: Data) -> np.ndarray:
    """uint16 [N_SIGN_CLASSES, 2], counted on `data`; prints what they cost on `held`."""
    n, wrong = surprises(network, data)
    # classes seen rarely lean on what their place says
    guess = 1 / (1 + np.exp(LOGIT * (np.arange(N_SIGN_CLASSES) + 0.5)))
    share = (wrong + 50 * guess) / (n + 50)
    n, wrong = surprises(network, held)
    cost = -(wrong * np.log2(share) + (n - wrong) * np.log2(1 - share)).sum() / n.sum()
    print(f"in whole numbers and classes: {cost:.4f} bits a sign; surprises {np.round(share, 3).tolist()}")
    return np.rint(ROW_TOTAL * np.stack([1 - share, share], 1)).astype(np.uint16)


def surprises(network: SignNetwork, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Signs by class, and those of them that were not as expected."""
    features, place, size, negative = (d.numpy() for d in data)
    n, wrong = np.zeros((2, N_SIGN_CLASSES))
    for at in range(0, len(size), PIECE):
        some = slice(at, at + PIECE)
        classes, expected = network.classes(features[some], place[some], size[some].astype(np.int64))
        n += np.bincount(classes, minlength=N_SIGN_CLASSES)
        wrong += np.bincount(classes, weights=expected != negative[some], minlength=N_SIGN_CLASSES)
    return n, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path, nargs="?", default=Path(signs.__file__).parent / signs.FILE)
    parser.add_argument("--steps", type=int, default=37_000)
    parser.add_argument("--cache", type=Path, default=Path("build/signs.pt"))
    asked = parser.parse_args()
    asked.cache.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    photos = sorted(asked.photos.glob("*.jpg"))
    names = [path.name for path in photos]
    if not asked.cache.exists():
        held_out = photos[HELD_OUT]
        everything = {"held": record(held_out, 1), "data": record([p for p in photos if p not in held_out], 0)}
        torch.save({**everything, "photos": names}, asked.cache)
    recorded = torch.load(asked.cache, weights_only=True)
    if recorded["photos"] != names:
        parser.error(f"{asked.cache} was recorded from other photos; --cache names another file")
    network = FloatNetwork()
    train(network, recorded["data"], recorded["held"], asked.steps, asked.cache.with_suffix(".state"))
    made = rounded(network)
    saved = signs.arrays(made, starting_rows(made, recorded["data"], recorded["held"]))
    np.savez_compressed(asked.out, **saved)
    print(f"{asked.out}: sha256 {signs.digest(saved)}")


if __name__ == "__main__":
    main()
