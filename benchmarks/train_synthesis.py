"""Trains the synthesis network of the cosine field on photos, and writes the package's synthesis_N.npz.

    python benchmarks/train_synthesis.py PHOTO_DIR OUT [--tune psnr|perceptual|both] [--minutes M] [--cache DIR]

Photos are made smaller (their own compression must not be learned), coded at steps from fine to coarse, and the network
learns what the field lacks: (original − decoded) in units of the local step. Every picture's loss is relative to its
own error, so that all rates weigh alike: the mean of it is about 4.3 times the gain in dB. Pictures are coded once and
kept in the cache; training goes on from OUT.state where that is there. Prints the digest that priors/synthesis.py pins.
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from inrcodec.fields.cosine import CosineField
from inrcodec.grid import Grid
from inrcodec.settings import EncodeSettings
from inrcodec.signals import SignalMeta

SIZES = ((0.5, 5), (0.75, 4))  # photos are resized by so much and coded so often
MAX_SIDE = 640  # of the larger ones a piece is cut out
QUALITIES = (8.0, 97.0)
HELD_OUT = ("casa-mila", "valley-midnight", "kait-herzog", "jared-evans")  # parts of names
MIDDLE = 0.3  # the frequency at which steps are compared
INPUT, TOP, FACTS = 12.0, 6.0, 5  # priors.synthesis in local steps


def prepare(photos: Path, cache: Path) -> None:
    """Codes every photo at several steps under both tunes; one .npz each."""
    cache.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for path in sorted(photos.glob("*.jpg")):
        for size, n in SIZES:
            for i in range(n):
                out = cache / f"{path.stem}-{size}-{i}.npz"
                quality = rng.uniform()
                corner = rng.uniform(size=2)
                if out.exists():
                    continue
                picture = Image.open(path).convert("RGB")
                wanted = [round(s * size) for s in picture.size]
                picture = picture.resize(wanted, Image.Resampling.LANCZOS if size != 0.5 else Image.Resampling.BOX)
                samples = np.asarray(picture, np.float32) / 255
                y, x = (int(c * max(0, s - MAX_SIDE)) if size != 0.5 else 0 for c, s in zip(corner, samples.shape))
                if size != 0.5:
                    samples = samples[y : y + MAX_SIDE, x : x + MAX_SIDE]
                tune = ("psnr", "perceptual")[i % 2]
                # evenly in the logarithm of the step
                low, high = (np.log(0.5 + 22 * ((100 - q) / 25) ** 1.5) for q in reversed(QUALITIES))
                np.savez(out, **code(samples, tune, float(np.exp(low + (i + quality) / n * (high - low))) / 255))
        print(path.stem, flush=True)


def code(samples: np.ndarray, tune: str, step: float) -> dict[str, np.ndarray]:
    """detail, wanted float16 [H, W, 3] in local units; unit float16 [H, W], relative; facts."""
    meta = SignalMeta("image", samples.shape[:2], 3, "u1", "rgb")
    settings = EncodeSettings(tune=tune)
    grid = Grid.fitting(meta.shape)
    field = CosineField(CosineField.plan_spec(meta, grid, settings, samples), meta, grid)
    fitted = field.fit(samples, settings, lambda _: None)
    quantiser = field.quantiser(fitted, settings, step * fitted.tuning.first_step)
    codes = field.quantize(fitted, quantiser)
    knots, heads = field.dequantize(codes, quantiser)
    axes = [np.arange(n) + 0.5 for n in meta.shape]
    decoded = (field.render((knots, heads), axes, (1.0, 1.0)) - 0.5) @ field._rotation.T
    smooth = field._evaluate_spline(knots, axes)
    base = quantiser.steps[0] * 2.0**-24 * (1 + quantiser.slope / 16 * MIDDLE)
    relative = np.ones(meta.shape)
    if field.spec.masking:
        z = field._evaluate_spline(codes[0][3:] * 0.25, axes)[..., 0]
        relative = np.exp2(np.clip(z, -8, 8))
    unit = (base * relative)[..., None]
    error = fitted.samples - decoded
    return {
        "detail": np.clip((decoded - smooth) / unit, -128, 128).astype(np.float16),
        "wanted": (error / unit).astype(np.float16),
        "relative": relative.astype(np.float16),
        "facts": np.array([base, quantiser.slope, float(np.mean(error**2)), tune == "perceptual"]),
    }


def condition(base: float, slope: float) -> np.ndarray:
    a = (np.log2(base) + 4) / 3
    return np.array([1, a, a * a, slope / 112, a * slope / 112], np.float32)


class Net(nn.Module):
    """The network in floats. Its first layers' weights are a matrix times `whiten`, the inverse root of the second
    moments of what the layer saw before training: detail is nearly all low frequencies, errors are not, and without
    this the steps go nowhere for a long time."""

    def __init__(self, block: int, widths: tuple[int, ...], signed: int) -> None:
        super().__init__()
        self.block = block
        self.sizes = (3 * block**2, *widths, 3 * block**2)
        self.raw, self.biases = nn.ParameterList(), nn.ParameterList()
        for i, (a, b) in enumerate(pairwise(self.sizes)):
            self.raw.append(nn.Parameter(torch.randn(b, 9 * a) * (2 / (9 * a)) ** 0.5))
            self.biases.append(nn.Parameter(torch.zeros(b, FACTS)))
            self.register_buffer(f"whiten{i}", torch.eye(9 * a))
        self.signed = signed
        self.margin = block * len(self.raw)

    @property
    def n_layers(self) -> int:
        return len(self.raw)

    def kernel(self, i: int) -> torch.Tensor:
        return (self.raw[i] @ getattr(self, f"whiten{i}")).reshape(self.sizes[i + 1], self.sizes[i], 3, 3)

    def features(self, x: torch.Tensor, c: torch.Tensor, layer: int) -> torch.Tensor:
        """What a layer sees."""
        x = F.pixel_unshuffle(x.clamp(-INPUT, INPUT), self.block)
        for i in range(layer):
            z = F.conv2d(x, self.kernel(i)) + (c @ self.biases[i].T)[:, :, None, None]
            x = torch.cat([z[:, : self.signed].clamp(-TOP, TOP), z[:, self.signed :].clamp(0, TOP)], 1)
        return x

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        last = self.n_layers - 1
        x = F.conv2d(self.features(x, c, last), self.kernel(last)) + (c @ self.biases[last].T)[:, :, None, None]
        return F.pixel_shuffle(x, self.block)

    @torch.no_grad()
    def start(self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, c: torch.Tensor) -> None:
        """Whitens layer after layer; the last starts as the least squares of random features."""
        for i in range(self.n_layers):
            seen = F.unfold(self.features(x, c, i), 3).transpose(1, 2)  # [N, positions, 9 I]
            flat = seen.reshape(-1, seen.shape[2]).double()
            values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
            root = (values.clamp(min=0) + (0.05 if i == 0 else 0.01)) ** -0.5
            getattr(self, f"whiten{i}").copy_((vectors * root) @ vectors.T)
        weight = F.avg_pool2d(w, self.block).reshape(len(x), -1, 1).double()
        target = F.pixel_unshuffle(y, self.block).flatten(2).transpose(1, 2).double()
        phi = seen.double() @ getattr(self, f"whiten{i}").double()
        moments = torch.einsum("npi,npj->ij", phi * weight, phi) / weight.sum()
        cross = torch.einsum("npi,npo->io", phi * weight, target) / weight.sum()
        solved = torch.linalg.solve(moments + 0.02 * torch.eye(len(moments), dtype=torch.float64), cross)
        self.raw[-1].copy_(solved.T)


def folded(net: Net, state: dict) -> list:
    """Kernels and biases of a state."""
    now = {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(state)
    result = [(net.kernel(i).detach().clone(), net.biases[i].detach().clone()) for i in range(net.n_layers)]
    net.load_state_dict(now)
    return result


def load(cache: Path, tune: str, every: int = 1) -> tuple[list[dict], list[dict]]:
    train, held = [], []
    for path in sorted(cache.glob("*.npz"))[:: every]:
        with np.load(path) as z:
            d = {k: z[k] for k in z.files}
        if tune != "both" and d["facts"][3] != (tune == "perceptual"):
            continue
        d["name"] = path.stem
        d["c"] = condition(d["facts"][0], d["facts"][1])
        (held if any(h in path.stem for h in HELD_OUT) else train).append(d)
    return train, held


def batch(rng, data, n, crop, margin, block):
    xs, ts, ws, cs, ph = [], [], [], [], []
    for _ in range(n):
        d = data[rng.integers(len(data))]
        h, w = d["relative"].shape
        size = crop + 2 * margin
        y, x = (int(rng.integers(0, (s - size) // block + 1)) * block for s in (h, w))
        a = d["detail"][y : y + size, x : x + size]
        t = d["wanted"][y + margin : y + margin + crop, x + margin : x + margin + crop]
        m = d["relative"][y + margin : y + margin + crop, x + margin : x + margin + crop]
        flip = rng.integers(0, 8)
        if flip & 1:
            a, t, m = a[::-1], t[::-1], m[::-1]
        if flip & 2:
            a, t, m = a[:, ::-1], t[:, ::-1], m[:, ::-1]
        if flip & 4:
            a, t, m = a.swapaxes(0, 1), t.swapaxes(0, 1), m.swapaxes(0, 1)
        sign = rng.choice([-1, 1], 3).astype(np.float32) if SIGNS else 1
        xs.append(a.astype(np.float32).transpose(2, 0, 1) * np.reshape(sign, (-1, 1, 1)))
        ts.append(t.astype(np.float32).transpose(2, 0, 1) * np.reshape(sign, (-1, 1, 1)))
        base, _, mse, _ = d["facts"]
        weight = m.astype(np.float32)[None] ** 2
        here = float((ts[-1] ** 2 * weight).mean()) * base**2
        ws.append(weight * np.float32(base**2 / (0.5 * mse + 0.5 * here)))
        cs.append(d["c"])
    return [torch.from_numpy(np.stack(v).astype(np.float32)) for v in (xs, ts, ws, cs)]


SIGNS = False


def gains(net, held) -> list[tuple[str, int, float, float]]:
    out = []
    with torch.no_grad():
        for d in held:
            h, w = (s // 2 * 2 // net.block * net.block for s in d["relative"].shape)
            m = net.margin
            x = torch.from_numpy(d["detail"][:h, :w].astype(np.float32).transpose(2, 0, 1))[None]
            r = net(x, torch.from_numpy(d["c"])[None])[0].numpy().transpose(1, 2, 0)
            t = d["wanted"][m : h - m, m : w - m].astype(np.float32)
            q = d["relative"][m : h - m, m : w - m, None].astype(np.float32) ** 2
            out.append((d["name"], int(d["facts"][3]), d["facts"][0], 10 * np.log10((t**2 * q).mean() / ((t - r) ** 2 * q).mean())))
    return out


def main() -> None:
    global SIGNS
    p = argparse.ArgumentParser()
    p.add_argument("photos", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--cache", type=Path, default=Path("/tmp/synth-cache"))
    p.add_argument("--tune", default="both")
    p.add_argument("--block", type=int, default=2)
    p.add_argument("--widths", default="24,24")
    p.add_argument("--minutes", type=float, default=5)
    p.add_argument("--crop", type=int, default=96)
    p.add_argument("--batch", type=int, default=16)
    p.add_argument("--rate", type=float, default=2e-3)
    p.add_argument("--sym", type=int, default=0)
    p.add_argument("--every", type=int, default=1)
    p.add_argument("--last", type=float, default=1)
    p.add_argument("--mid", type=float, default=1)
    p.add_argument("--whiten", action="store_true")
    p.add_argument("--top", type=float, default=16)
    p.add_argument("--lim", type=float, default=128)
    p.add_argument("--clip", type=float, default=0.5)
    p.add_argument("--signs", action="store_true")
    p.add_argument("--prepare", action="store_true")
    a = p.parse_args()
    SIGNS = a.signs
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if a.prepare:
        prepare(a.photos, a.cache)
        return
    train, held = load(a.cache, a.tune, a.every)
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    net = Net(a.block, tuple(int(v) for v in a.widths.split(",")), a.sym)
    first = [batch(rng, train, 48, 32, net.margin, a.block)]
    if a.whiten:
        net.start(*first[0])
    else:
        with torch.no_grad():
            net.raw[0].mul_(0.3)
            net.raw[-1].zero_()
    share = [1.0] + [a.mid] * (net.n_layers - 2) + [a.last]
    groups = [{"params": [w], "share": s} for w, s in zip(net.raw, share)]
    groups += [{"params": [b], "share": s} for b, s in zip(net.biases, share)]
    ema = {k: v.clone() for k, v in net.state_dict().items()}
    opt = torch.optim.Adam(groups, a.rate, betas=(0.9, 0.99))
    print(f"{len(train)} + {len(held)} coded pictures, {sum(map(torch.numel, net.raw)) / a.block**2:.0f} MAC per pixel", flush=True)
    start, step, seen, last = time.time(), 0, 0.0, time.time()
    cpu0 = time.process_time()
    while (t := (time.process_time() - cpu0) / 60 / a.minutes) < 1:
        for g in opt.param_groups:
            g["lr"] = g["share"] * a.rate * min(1, (step + 1) / 50) * (0.5 + 0.5 * np.cos(np.pi * t)) + 1e-6
        x, y, w, c = batch(rng, train, a.batch, a.crop, net.margin, a.block)
        x = x.contiguous(memory_format=torch.channels_last)
        loss = ((net(x, c) - y) ** 2 * w).mean() * 3
        base = float((y**2 * w).mean() * 3)
        opt.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), a.clip)
        opt.step()
        step += 1
        decay = min(0.998, step / (step + 20))
        for k, v in net.state_dict().items():
            ema[k].lerp_(v, 1 - decay)
        seen += 0.01 * ((base - float(loss.detach())) / base - seen) if step > 1 else 0
        if time.time() - last > 20 or step == 20:
            last = time.time()
            print(f"step {step} {time.time() - start:.0f}s cpu {t * a.minutes * 60:.0f}s share {seen:.4f} norm {float(norm):.2f}", flush=True)
            torch.save({"ema": ema, "net": net.state_dict(), "args": vars(a), "folded": folded(net, ema)}, a.out)
    torch.save({"ema": ema, "net": net.state_dict(), "args": vars(a), "folded": folded(net, ema)}, a.out)
    net.load_state_dict(ema)
    g = gains(net, held)
    for tune in (0, 1):
        of = sorted((b, v) for _, k, b, v in g if k == tune)
        thirds = np.array_split([v for _, v in of], 3)
        print(("psnr", "perceptual")[tune], step, "steps; gain dB fine, middle, coarse:", [round(float(v.mean()), 3) for v in thirds if len(v)], "all", round(float(np.mean([v for _, v in of])), 4) if of else "")


if __name__ == "__main__":
    main()
