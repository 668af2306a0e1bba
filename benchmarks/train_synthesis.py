"""Trains the synthesis network of the cosine field on photos, and writes the package's synthesis_N.npz.

    python benchmarks/train_synthesis.py PHOTO_DIR OUT.npz [--tune T] [--minutes M] [--cache DIR] [--start N]

Photos are made smaller (their own compression must not be learned) and coded at steps from fine to coarse under that
tune; the network learns what the decoded pictures lack, in units of the local step. A crop's loss is relative to its
own error and its picture's, so that all rates weigh alike; with --tune perceptual luma's is mostly what SSIMULACRA2
would see, for mean squared error blurs faint textures. Pictures are coded once and kept in the cache; an interrupted
training goes on from OUT.state. At the end: the gain in dB on photos that were held out, and the digest that
priors/synthesis.py pins.
--start N goes on from a network of the package.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from inrcodec.fields.cosine import CosineField
from inrcodec.fields.synthesis import surroundings
from inrcodec.fields.tuning import TUNINGS
from inrcodec.grid import Grid
from inrcodec.priors.synthesis import (
    HIDDEN_LIMIT,
    HIDDEN_UNIT,
    INPUT_LIMIT,
    INPUT_UNIT,
    MAX_EXACT,
    OUTPUT_UNIT,
    SURROUNDINGS,
    arrays,
    bias_bound,
    digest,
    network,
)
from inrcodec.settings import EncodeSettings
from inrcodec.signals import SignalMeta

SIZES = ((0.5, 5), (0.75, 4))  # photos are resized by so much and coded so often
PIECE = 640  # samples per side cut out of the larger ones
QUALITIES = (97.0, 8.0)
HELD_OUT = ("casa-mila", "valley-midnight", "kait-herzog", "jared-evans")  # parts of names
BLOCK, UNITS, SIGNED, FILTERS = 2, 22, 11, 16  # samples per block's side; first layer, of it both signs; second layer
FACTS = 5
SSIM_C2 = 0.0009
EYES_SHARE = 0.85
EYES_GAIN = 0.85  # of luma: measured on photos, a whole step towards the mean is too smooth for eyes
ROOM = 0.6  # share of the largest sums that the last layer may take: a file's deltas take of the rest
CROP, BATCH, CLIP, DECAY = 96, 16, 0.5, 0.998
RATE, RATE_ON = 2.5e-3, 8e-4  # from nothing, and from a network of the package


def prepare(photos: Path, cache: Path, tune: str) -> None:
    """Codes every photo at several steps; one .npz each."""
    cache.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    fine, coarse = (np.log((0.5 + 22 * ((100 - q) / 25) ** 1.5) / 255) for q in QUALITIES)
    for path in sorted(photos.glob("*.jpg")):
        for size, n in SIZES:
            for i in range(n):
                place, corner = rng.uniform(), rng.uniform(size=2)
                out = cache / f"{path.stem}-{size}-{i}.{tune}.npz"
                if out.exists():
                    continue
                picture = Image.open(path).convert("RGB")
                method = Image.Resampling.BOX if size == 0.5 else Image.Resampling.LANCZOS
                picture = picture.resize((round(picture.width * size), round(picture.height * size)), method)
                samples = np.asarray(picture, np.float32) / 255
                if size != 0.5:
                    y, x = (int(c * max(0, s - PIECE)) for c, s in zip(corner, samples.shape[:2], strict=True))
                    samples = samples[y : y + PIECE, x : x + PIECE]
                step = float(np.exp(fine + (i + place) / n * (coarse - fine)))  # even in the logarithm
                np.savez(out, **code(samples, tune, step))
        print(path.stem, flush=True)


def code(samples: np.ndarray, tune: str, step: float) -> dict[str, np.ndarray]:
    """detail, wanted: float16 [H, W, 3] in local steps; relative: the local step in that of the file, float16 [H, W];
    condition; facts: step of the file, mean squared error."""
    meta = SignalMeta("image", samples.shape[:2], 3, "u1", "rgb")
    settings = EncodeSettings(tune=tune)
    grid = Grid.fitting(meta.shape)
    spec = replace(CosineField.plan_spec(meta, grid, settings, samples), deltas=False)  # every file has its own
    field = CosineField(spec, meta, grid)
    fitted = field.fit(samples, settings, lambda _: None)
    quantiser = field.quantiser(fitted, step * fitted.tuning.first_step)
    weights = field.dequantize(field.quantize(fitted, quantiser), quantiser)
    axes = [np.arange(n) + 0.5 for n in meta.shape]
    detail, smooth = field.linear(weights, axes, (1.0, 1.0))
    local, facts = field.local_step(weights, axes), weights.facts
    error = fitted.samples - smooth - detail
    return {
        "detail": (detail / local).astype(np.float16),
        "wanted": (error / local).astype(np.float16),
        "relative": (local[..., 0] / facts[0]).astype(np.float16),
        "condition": facts[1:].astype(np.float32),
        "facts": np.array([facts[0], np.mean(error**2)]),
    }


class Net(nn.Module):
    """The network in floats, everything in local steps. signed: units of the first layer that pass both signs on; the
    answer has `times` samples per sample and axis. With one it sees its surroundings (at the position only: they hardly
    change from one to the next), with more its last layer sees the input as well."""

    def __init__(self, units: int = UNITS, signed: int = SIGNED, filters: int = FILTERS, times: int = 1) -> None:
        super().__init__()
        colours = 3 * BLOCK**2
        self.signed, self.filters, self.times = signed, filters, times
        self.reach = max(r for _, r in SURROUNDINGS) if times == 1 else 0
        self.first = nn.Conv2d(colours, units, 3, bias=False)
        self.centre = nn.Conv2d(len(SURROUNDINGS), units, 1, bias=False) if times == 1 else None
        self.second = nn.Conv2d(units, 2 * filters, 3, bias=False)
        self.third = nn.Conv2d(filters + colours * (times > 1), colours * times**2, 3, bias=False)
        self.layers = (self.first, self.second, self.third)
        self.biases = nn.ParameterList(torch.zeros(len(layer.weight), FACTS) for layer in self.layers)
        self.margin = BLOCK * (len(self.layers) + self.reach)
        with torch.no_grad():
            for layer, gain in zip(self.layers, (0.3, 1.0, 0.0), strict=True):
                layer.weight.normal_(0, gain * (2 / (9 * layer.in_channels)) ** 0.5)
            if self.centre is not None:
                self.centre.weight.zero_()
            # gates start ajar: the filters behind them learn at once
            self.second.weight[filters:].mul_(0.2)
            self.biases[1][filters:, 0] = torch.linspace(0.2, 0.8, filters)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        top = HIDDEN_LIMIT / HIDDEN_UNIT
        bias = [(condition @ b.T)[:, :, None, None] for b in self.biases]
        seen = functional.pixel_unshuffle(x.clamp(-INPUT_LIMIT / INPUT_UNIT, INPUT_LIMIT / INPUT_UNIT), BLOCK)
        if self.centre is None:
            x = self.first(seen) + bias[0]
        else:
            places = self.centre(around(seen)[..., 1:-1, 1:-1])
            seen = seen[..., self.reach : -self.reach, self.reach : -self.reach]
            x = self.first(seen) + places + bias[0]
        x = torch.cat([x[:, : self.signed].clamp(-top, top), x[:, self.signed :].clamp(0, top)], 1)
        filters, gates = (self.second(x) + bias[1]).chunk(2, 1)
        x = filters.clamp(-top, top) * gates.clamp(0, 1)
        if self.times > 1:
            x = torch.cat([x, seen[..., 2:-2, 2:-2]], 1)
        x = self.third(x) + bias[2]
        return functional.pixel_shuffle(x, self.times * BLOCK)


def around(x: torch.Tensor) -> torch.Tensor:
    """The surroundings of pictures by blocks, [N, 3 · BLOCK², h, w] -> [N, 3, h − 2r, w − 2r]; nothing is learned
    through them."""
    whole = (x * INPUT_UNIT).round().numpy()
    return torch.from_numpy(np.stack([surroundings(one, BLOCK) for one in whole])) / INPUT_UNIT


def batch(rng: np.random.Generator, data: list[dict[str, np.ndarray]], margin: int) -> list[torch.Tensor]:
    """Random crops, turned and mirrored: detail [N, 3, …], wanted, weights [N, 1, …], conditions [N, 5], and what turns
    local steps of the first channel into luma of 0 … 1, [N, 1, …]."""
    size = CROP + 2 * margin
    columns: tuple[list[np.ndarray], ...] = ([], [], [], [], [])
    for _ in range(BATCH):
        d = data[rng.integers(len(data))]
        y, x = (int(rng.integers(0, (s - size) // BLOCK + 1)) * BLOCK for s in d["relative"].shape)
        inner = slice(y + margin, y + margin + CROP), slice(x + margin, x + margin + CROP)
        maps = [d["detail"][y : y + size, x : x + size], d["wanted"][inner], d["relative"][inner][..., None]]
        turns, mirrored = rng.integers(4), rng.integers(2)
        maps = [np.rot90(m[::-1] if mirrored else m, turns).astype(np.float32).transpose(2, 0, 1) for m in maps]
        step, mse = d["facts"]
        squared = maps[2] ** 2 * np.float32(step**2)
        weight = squared / np.float32(0.5 * mse + 0.5 * np.mean(maps[1] ** 2 * squared))
        luma = maps[2] * np.float32(step / np.sqrt(3))
        for column, value in zip(columns, (maps[0], maps[1], weight, d["condition"], luma), strict=True):
            column.append(value)
    return [torch.from_numpy(np.stack(c)) for c in columns]


def gains(net: Net, held: list[dict[str, np.ndarray]]) -> list[float]:
    """dB on every picture, from the finest step to the coarsest."""
    found, m = [], net.margin
    for d in sorted(held, key=lambda d: float(d["facts"][0])):
        h, w = (s // BLOCK * BLOCK for s in d["relative"].shape)
        x = torch.from_numpy(d["detail"][None, :h, :w].astype(np.float32).transpose(0, 3, 1, 2))
        with torch.no_grad():
            answer = net(x, torch.from_numpy(d["condition"])[None])[0].numpy().transpose(1, 2, 0)
        wanted = d["wanted"][m : h - m, m : w - m].astype(np.float32)
        squared = d["relative"][m : h - m, m : w - m, None].astype(np.float32) ** 2
        gain = 10 * np.log10(np.mean(wanted**2 * squared) / np.mean((wanted - answer) ** 2 * squared))
        found.append(float(gain))
    return found


def whole_numbers(net: Net) -> dict[str, np.ndarray]:
    """The network as its file holds it: every layer as fine as sums that float32 holds exactly allow. The last layer of
    a synthesis network leaves room for the deltas of files."""
    weights, centres, biases, shifts = [], [], [], []
    for i, (layer, bias) in enumerate(zip(net.layers, net.biases, strict=True)):
        w, b = (t.detach().double().numpy() for t in (layer.weight, bias))
        if i == len(net.layers) - 1:
            w[:, net.filters :] *= HIDDEN_UNIT / INPUT_UNIT  # what the input is a whole number of
        unit, limit = (INPUT_UNIT, INPUT_LIMIT) if i == 0 else (HIDDEN_UNIT, HIDDEN_LIMIT)
        out = HIDDEN_UNIT if i < len(net.layers) - 1 else OUTPUT_UNIT
        taps, n = w.reshape(len(w), -1), w[0].size
        if layer is net.first and net.centre is not None:
            taps = np.concatenate([taps, net.centre.weight.detach().double().numpy()[..., 0, 0]], 1)
        bits = 15 - int(np.ceil(np.log2(np.abs(taps).max())))
        most = MAX_EXACT * (ROOM if layer is net.third and net.times == 1 else 1)
        while (np.abs(np.rint(taps * 2**bits)).sum(1) * limit + bias_bound(b * unit * 2**bits)).max() >= most:
            bits -= 1
        whole = np.rint(taps * 2**bits)
        weights.append(whole[:, :n].reshape(w.shape))
        centres.append(whole[:, n:])
        biases.append(b * unit * 2**bits)
        shifts.append(bits + round(np.log2(unit / out)))
    signed = (net.signed, net.filters, len(net.third.weight))
    return arrays(BLOCK, weights, biases, shifts=shifts, signed=signed, surroundings=centres[0])


def released(number: int) -> Net:
    """That network of the package."""
    stored = network(number)
    first, second, _ = stored.layers
    net = Net(len(first.low), int((first.low < 0).sum()), len(second.low) // 2, stored.times)
    units = (INPUT_UNIT, HIDDEN_UNIT, HIDDEN_UNIT)
    with torch.no_grad():
        for i, (found, layer, bias) in enumerate(zip(stored.layers, net.layers, net.biases, strict=True)):
            scale = 2.0**-found.shift * units[i] / (HIDDEN_UNIT if i < 2 else OUTPUT_UNIT)
            layer.weight.copy_(torch.from_numpy(found.weights * scale))
            if found.centre.size and net.centre is not None:
                net.centre.weight.copy_(torch.from_numpy(found.centre * scale)[..., None, None])
            if i == 2:
                layer.weight[:, net.filters :] *= INPUT_UNIT / HIDDEN_UNIT
            bias.copy_(torch.from_numpy(found.bias * scale / units[i]))
    return net


def scale_luma(net: Net, gain: float) -> None:
    """Multiplies its answers for the first channel."""
    with torch.no_grad():
        for tensor in (net.third.weight, net.biases[-1]):
            tensor[: BLOCK**2] *= gain


def eyes(luma: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """What SSIMULACRA2 sees amiss in decoded [N, 1, H, W] beside luma, [N, 6]: at three scales 1 − SSIM without its
    means, and the difference in contrast (|y − mean| against |x − mean|: ringing where it grew, blur where it fell)."""
    found = []
    for scale in range(3):
        if scale:
            luma, decoded = functional.avg_pool2d(luma, 2), functional.avg_pool2d(decoded, 2)
        x, y = luma, decoded
        mean_x, mean_y = _blur(x), _blur(y)
        xx, yy, xy = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2, _blur(x * y) - mean_x * mean_y
        found.append((1 - (2 * xy + SSIM_C2) / (xx + yy + SSIM_C2)).mean((1, 2, 3)))
        e = ((y - mean_y) ** 2 + 1e-6).sqrt() - ((x - mean_x) ** 2 + 1e-6).sqrt()
        found.append((e * e + 1e-8).sqrt().mean((1, 2, 3)))
    return torch.stack(found, 1)


def _blur(x: torch.Tensor) -> torch.Tensor:
    """Near a Gaussian of 1.5 samples."""
    for _ in range(3):
        x = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    return x


def descend(
    net: Net,
    rate: float,
    minutes: float,
    state_file: Path,
    *,
    loss_of: Callable[[np.random.Generator], tuple[torch.Tensor, float]],
    note: Callable[[Net], str] = lambda _: "",
) -> Net:
    """The moving average of the weights after so many minutes of Adam; goes on from state_file, and keeps it. loss_of:
    a batch's loss, and the share of its squared error that is gone. note: said of the average once a minute."""
    rng = np.random.default_rng(1)
    average = copy.deepcopy(net)
    optimiser = torch.optim.Adam(net.parameters(), rate, betas=(0.9, 0.99))
    step, spent, share = 0, 0.0, 0.0
    if state_file.exists():
        state: dict[str, Any] = torch.load(state_file, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, spent = state["step"], state["spent"]
        rng = np.random.default_rng(step)
    saved = start = time.monotonic() - spent
    while (spent := time.monotonic() - start) < 60 * minutes:
        for group in optimiser.param_groups:
            drop = 0.5 + 0.5 * math.cos(math.pi * spent / 60 / minutes)
            group["lr"] = rate * min(1, (step + 1) / 50) * drop
        loss, gone = loss_of(rng)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimiser.step()
        step += 1
        decay = min(DECAY, step / (step + 20))
        for mean, now in zip(average.parameters(), net.parameters(), strict=True):
            mean.data.lerp_(now.data, 1 - decay)
        share += 0.01 * (gone - share)
        if time.monotonic() - saved > 60:
            saved = time.monotonic()
            said = f"{spent / 60:.0f} of {minutes:g} min, step {step}: {share:.2%} of the error gone{note(average)}"
            print(said, flush=True)
            state = {"net": net.state_dict(), "average": average.state_dict(), "optimiser": optimiser.state_dict()}
            torch.save({**state, "step": step, "spent": spent}, state_file)
    return average


def for_eyes(luma: torch.Tensor, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """What eyes see amiss after the network, relative to before it; luma of 0 … 1, without the smooth level."""
    with torch.no_grad():
        without = eyes(luma, before)
    return (eyes(luma, after) / (0.5 * without + 0.5 * without.mean(0))).mean()


def train(
    data: list[dict[str, np.ndarray]],
    minutes: float,
    state_file: Path,
    *,
    start: int | None = None,
    seen: bool = False,
) -> Net:
    """start: number of the network to go on from; seen: by what eyes see."""
    torch.manual_seed(0)
    net = Net() if start is None else released(start)
    if start == TUNINGS["perceptual"].synthesis:  # what was taken from it in the end
        scale_luma(net, 1 / EYES_GAIN)

    def loss_of(rng: np.random.Generator) -> tuple[torch.Tensor, float]:
        detail, wanted, weight, condition, local = batch(rng, data, net.margin)
        answer = net(detail.contiguous(memory_format=torch.channels_last), condition)
        errors = ((answer - wanted) ** 2 * weight).mean((0, 2, 3))
        loss = error = errors.sum()
        if seen:
            inner = detail[:, :1, net.margin : -net.margin, net.margin : -net.margin]
            amiss = for_eyes((inner + wanted[:, :1]) * local, inner * local, (inner + answer[:, :1]) * local)
            loss = EYES_SHARE * amiss + (1 - EYES_SHARE) * errors[0] + errors[1:].sum()
        return loss, 1 - float(error.detach()) / (3 * float((wanted**2 * weight).mean()))

    return descend(net, RATE if start is None else RATE_ON, minutes, state_file, loss_of=loss_of)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tune", choices=["psnr", "perceptual"], default="psnr")
    parser.add_argument("--cache", type=Path, help="where coded photos are kept; beside OUT if not given")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--start", type=int, metavar="N", help="go on from that network of the package")
    asked = parser.parse_args()
    torch.set_flush_denormal(True)
    cache = asked.cache or asked.out.with_name(f"{asked.photos.name}-{asked.tune}")
    prepare(asked.photos, cache, asked.tune)
    data, held = [], []
    for path in sorted(cache.glob(f"*.{asked.tune}.npz")):
        with np.load(path) as archive:
            (held if any(h in path.stem for h in HELD_OUT) else data).append({k: archive[k] for k in archive.files})
    print(f"{len(data)} coded pictures and {len(held)} held out", flush=True)
    state, seen = asked.out.with_suffix(".state"), asked.tune == "perceptual"
    net = train(data, asked.minutes, state, start=asked.start, seen=seen)
    if seen:
        scale_luma(net, EYES_GAIN)
    dB = gains(net, held)
    thirds = [float(np.mean(third)) for third in np.array_split(np.asarray(dB), 3)]
    print(f"{np.mean(dB):+.3f} dB; fine, middle, coarse steps {', '.join(f'{t:+.3f}' for t in thirds)}")
    made = whole_numbers(net)
    np.savez_compressed(asked.out, **made)
    print(f"{asked.out}: sha256 {digest(made)}")


if __name__ == "__main__":
    main()
