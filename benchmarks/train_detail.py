"""Trains the detail network of the cosine field on photos, and writes the package's synthesis_N.npz.

    python benchmarks/train_detail.py PHOTO_DIR OUT.npz [--minutes M] [--cache DIR] [--start N]

Photos are made smaller once (their own compression must not be learned) and halved; the half is coded at steps from
fine to coarse under both tunes. The network sees what it decodes to and learns what that, enlarged by a fixed kernel,
lacks of the picture before it was halved. Pictures are coded once and kept in the cache; an interrupted
training goes on from OUT.state. At the end: PSNR of photos that were held out, without the network, and what it gains;
and the digest that priors/synthesis.py pins.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from train_synthesis import BLOCK, HELD_OUT, QUALITIES, Net, descend, for_eyes, released, whole_numbers

from inrcodec.fields.cosine import CosineField
from inrcodec.fields.synthesis import DETAIL_UNIT, TAPS, enlarged
from inrcodec.grid import Grid
from inrcodec.priors.synthesis import digest
from inrcodec.settings import EncodeSettings
from inrcodec.signals import SignalMeta

SIZES = ((0.5, 3), (0.75, 1), (0.35, 1))  # photos are resized by so much and coded so often
PIECE = 1152  # samples per side cut out of the larger ones
# How pictures are halved: the average of four, as small pixels become large ones, and what programs resize with
HALVINGS = (Image.Resampling.BOX, Image.Resampling.LANCZOS, Image.Resampling.BOX, Image.Resampling.BICUBIC)
UNITS, SIGNED, FILTERS = 32, 20, 24
CROP, BATCH, RATE = 48, 16, 2e-3
EYES_SHARE = 0.3
ROUGH = 1 / 255 / DETAIL_UNIT  # errors below are squared, larger ones count by their size


def prepare(photos: Path, cache: Path) -> None:
    """Codes every photo at several steps; one .npz each."""
    cache.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    fine, coarse = (np.log((0.5 + 22 * ((100 - q) / 25) ** 1.5) / 255) for q in (QUALITIES[0], 30.0))
    turn = 0
    for path in sorted(photos.glob("*.jpg")):
        for size, n in SIZES:
            for i in range(n):
                place, corner = rng.uniform(), rng.uniform(size=2)
                turn += 1
                out = cache / f"{path.stem}-{size}-{i}.npz"
                if out.exists():
                    continue
                picture = Image.open(path).convert("RGB")
                picture = picture.resize(
                    (round(picture.width * size), round(picture.height * size)), Image.Resampling.LANCZOS
                )
                w, h = (min(s, PIECE) // 2 * 2 for s in picture.size)
                x, y = (int(c * (s - k)) for c, s, k in zip(corner, picture.size, (w, h), strict=True))
                picture = picture.crop((x, y, x + w, y + h))
                half = picture.resize((w // 2, h // 2), HALVINGS[turn % len(HALVINGS)])
                step = float(np.exp(fine + (i + place) / n * (coarse - fine)))
                large, small = (np.asarray(p, np.float32) / 255 for p in (picture, half))
                np.savez(out, **code(small, large, ("psnr", "perceptual")[turn // 2 % 2], step))
        print(path.stem, flush=True)


def code(samples: np.ndarray, large: np.ndarray, tune: str, step: float) -> dict[str, np.ndarray]:
    """detail float16 [H, W, 3]: what the decoder has; wanted float16 [2H, 2W, 3]; both in DETAIL_UNIT, on rotated
    channels; condition."""
    meta = SignalMeta("image", samples.shape[:2], 3, "u1", "rgb")
    settings = EncodeSettings(tune=tune)
    grid = Grid.fitting(meta.shape)
    spec = replace(CosineField.plan_spec(meta, grid, settings, samples), detail=0)
    field = CosineField(spec, meta, grid)
    fitted = field.fit(samples, settings, lambda _: None)
    quantiser = field.quantiser(fitted, step * fitted.tuning.first_step)
    weights = field.dequantize(field.quantize(fitted, quantiser), quantiser)
    axes = [np.arange(n) + 0.5 for n in meta.shape]
    corrected = field.correct(weights, [np.array([0.0, n]) for n in meta.shape], (1.0, 1.0))
    detail, _ = field.linear(corrected, axes, (1.0, 1.0))
    twice = [(np.arange(2 * n) + 0.5) / 2 for n in meta.shape]
    _, smooth = field.linear(corrected, twice, (2.0, 2.0))
    wanted = (large - 0.5) @ field._rotation.T - smooth
    wanted -= enlarged(np.pad(detail, [(3, 3), (3, 3), (0, 0)], mode="edge"))
    return {
        "detail": (detail / DETAIL_UNIT).astype(np.float16),
        "wanted": (wanted / DETAIL_UNIT).astype(np.float16),
        "condition": weights.condition.astype(np.float32),
    }


def batch(rng: np.random.Generator, data: list[dict[str, np.ndarray]], margin: int) -> list[torch.Tensor]:
    """Random crops, turned and mirrored: detail [N, 3, …], wanted [N, 3, …], conditions [N, 5]."""
    size = CROP + 2 * margin
    columns: tuple[list[np.ndarray], ...] = ([], [], [])
    while len(columns[0]) < BATCH:
        d = data[rng.integers(len(data))]
        y, x = (int(rng.integers(0, (s - size) // BLOCK + 1)) * BLOCK for s in d["detail"].shape[:2])
        inner = tuple(slice(2 * (a + margin), 2 * (a + margin + CROP)) for a in (y, x))
        maps = [d["detail"][y : y + size, x : x + size], d["wanted"][inner]]
        # of places without detail there are too many
        if np.mean(np.square(maps[1], dtype=np.float32)) < rng.exponential(d["mse"]) / 4:
            continue
        turns, mirrored = rng.integers(4), rng.integers(2)
        maps = [np.rot90(m[::-1] if mirrored else m, turns).astype(np.float32).transpose(2, 0, 1) for m in maps]
        for column, value in zip(columns, (*maps, d["condition"]), strict=True):
            column.append(value)
    return [torch.from_numpy(np.stack(c)) for c in columns]


def gains(net: Net, held: list[dict[str, np.ndarray]]) -> list[tuple[str, float]]:
    """dB on every picture, from the finest step to the coarsest."""
    found = []
    m = net.margin
    for d in sorted(held, key=lambda d: float(d["condition"][1])):
        h, w = (s // BLOCK * BLOCK for s in d["detail"].shape[:2])
        x = torch.from_numpy(d["detail"][None, :h, :w].astype(np.float32).transpose(0, 3, 1, 2))
        with torch.no_grad():
            answer = net(x, torch.from_numpy(d["condition"])[None])[0].numpy().transpose(1, 2, 0)
        wanted = d["wanted"][2 * m : 2 * (h - m), 2 * m : 2 * (w - m)].astype(np.float32)
        before, after = np.mean(wanted**2), np.mean((wanted - answer) ** 2)
        found.append((f"{-10 * np.log10(before * DETAIL_UNIT**2):.2f}", float(10 * np.log10(before / after))))
    return found


def train(
    data: list[dict[str, np.ndarray]], held: list, minutes: float, state_file: Path, *, start: int | None = None
) -> Net:
    torch.manual_seed(0)
    net = Net(UNITS, SIGNED, FILTERS, times=2) if start is None else released(start)
    luma = DETAIL_UNIT / np.sqrt(3)  # of 0 … 1, from the first channel

    def loss_of(rng: np.random.Generator) -> tuple[torch.Tensor, float]:
        detail, wanted, condition = batch(rng, data, net.margin)
        answer = net(detail.contiguous(memory_format=torch.channels_last), condition)
        error = (((answer - wanted) ** 2 + ROUGH**2).sqrt() - ROUGH).mean((1, 2, 3))
        before = wanted.abs().mean((1, 2, 3))
        loss = (error / (0.5 * before + 0.5 * before.mean())).mean()
        beyond = net.margin - len(TAPS) // 2
        inner = enlarged(detail[:, 0, beyond:-beyond, beyond:-beyond].numpy().transpose(1, 2, 0)).transpose(2, 0, 1)
        inner = torch.from_numpy(np.float32(inner))[:, None] * luma  # what the answer adds to
        amiss = for_eyes(inner + wanted[:, :1] * luma, inner, inner + answer[:, :1] * luma)
        gone = 1 - float(((answer.detach() - wanted) ** 2).sum() / (wanted**2).sum())
        return EYES_SHARE * amiss + (1 - EYES_SHARE) * loss, gone

    def note(average: Net) -> str:
        return f"; held out {np.mean([g for _, g in gains(average, held[::3])]):.3f} dB"

    return descend(net, RATE if start is None else RATE / 2, minutes, state_file, loss_of=loss_of, note=note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--cache", type=Path, help="where coded photos are kept; beside OUT if not given")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--start", type=int, metavar="N", help="go on from that network of the package")
    asked = parser.parse_args()
    torch.set_flush_denormal(True)
    cache = asked.cache or asked.out.with_name(f"{asked.photos.name}-detail")
    prepare(asked.photos, cache)
    data, held = [], []
    for path in sorted(cache.glob("*.npz")):
        with np.load(path) as archive:
            d = {k: archive[k] for k in archive.files}
        if min(d["detail"].shape[:2]) < 100:
            continue
        d["mse"] = np.mean(np.square(d["wanted"], dtype=np.float32))
        (held if any(h in path.stem for h in HELD_OUT) else data).append(d)
    print(f"{len(data)} coded pictures and {len(held)} held out", flush=True)
    net = train(data, held, asked.minutes, asked.out.with_suffix(".state"), start=asked.start)
    print("without, dB gained:", ", ".join(f"{a} +{b:.2f}" for a, b in gains(net, held)), flush=True)
    stored = whole_numbers(net)
    np.savez_compressed(asked.out, **stored)
    print(f"{asked.out}: {digest(stored)}", flush=True)


if __name__ == "__main__":
    main()
