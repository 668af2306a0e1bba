"""One picture by one network, by a network per grid cell (PoG), and per segment (PoS): arXiv 2310.14184."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from experiment import Check, Options, Outcome, markdown, photo, resized
from keep import Watch, digest

from inrcodec.fields.cellfit import CHUNK_VALUES, CHUNK_VALUES_GPU, UnequalCells
from inrcodec.fields.layers import MlpShape, forward, initial
from inrcodec.fields.segmented import boxes_of, local_in_boxes
from inrcodec.fitting import AdamSettings, descend, resolve_device
from inrcodec.segments import components, segment

__all__ = [
    "Pictures",
    "Relu",
    "grid_labels",
    "grid_positions",
    "harmonics",
    "run_pog",
    "run_relu",
    "scrambled_positions",
    "train_picture",
]

PARTS = 9
PAPER = {  # PSNR by step, 700 × 1000 picture, 791,043 parameters
    "one network": {100: 13.3, 300: 13.6, 500: 16.3, 750: 19.2, 1000: 21.2, 1490: 23.3},
    "PoG": {100: 14.7, 300: 16.1, 500: 20.3, 750: 22.6, 1000: 24.1, 1490: 26.1},
    "PoS": {100: 15.5, 300: 18.0, 500: 21.1, 750: 23.3, 1000: 24.8, 1490: 26.5},
}
RATE = 1e-4


@dataclass
class Curve:
    """PSNR (ordinary, not clamped) of a training run, looked at every ten steps."""

    parameters: int
    macs: int  # per pixel
    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    psnr_db: list[float] = field(default_factory=list)

    @classmethod
    def load(cls, kept: dict[str, Any]) -> Curve:
        return cls(**kept)

    def at_step(self, step: int) -> float:
        return self.psnr_db[int(np.searchsorted(self.steps, step, side="right")) - 1]

    @property
    def pace(self) -> float:
        """Seconds a step."""
        return self.seconds[-1] / self.steps[-1]

    def at_seconds(self, seconds: float) -> float:
        """The last look that was over by then."""
        return self.psnr_db[max(0, int(np.searchsorted(self.seconds, seconds, side="right")) - 1)]


def grid_labels(height: int, width: int, side: int) -> np.ndarray:
    """The paper's grid: blocks of floor(n / side) + 1, the last one takes the rest (and may be missing)."""
    rows, columns = (np.arange(n) // (n // side + 1) for n in (height, width))
    labels = rows[:, None] * (columns[-1] + 1) + columns
    return np.asarray(labels, np.int32)


def grid_positions(height: int, width: int) -> np.ndarray:
    """Global coordinates [H · W, 2] in [−1, 1], end samples at the ends, as the paper has them."""
    mesh = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    return np.stack([m.ravel() for m in mesh], axis=1)


def scrambled_positions(height: int, width: int) -> np.ndarray:
    """What the paper's code gives: enumerated column by column, beside samples enumerated row by row."""
    mesh = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height), indexing="ij")
    return np.stack([m.ravel() for m in mesh], axis=1)


def local_positions(labels: np.ndarray) -> np.ndarray:
    """The codec's: every segment's box from −1 to 1."""
    centres = np.stack([i.ravel() for i in np.indices(labels.shape)], axis=1) + 0.5
    return local_in_boxes(boxes_of(labels, int(labels.max()) + 1), labels.ravel(), centres)


def harmonics(positions: np.ndarray, samples: int, octaves: int | None = None) -> np.ndarray:
    """Sines and cosines of 2^k / 2 · position, k = 0, 1, … below the Nyquist frequency of so many samples; or so many
    octaves, in single precision as in the paper's code, of which those from about 20 on are noise."""
    factors = 0.5 * 2.0 ** np.arange(60)
    if octaves is None:
        factors = factors[factors <= np.pi * (samples - 1) / 2]
    else:
        factors, positions = factors[:octaves].astype(np.float32), positions.astype(np.float32)
    phase = (positions[:, :, None] * factors).reshape(len(positions), -1)
    return np.concatenate([np.sin(phase), np.cos(phase)], axis=1)


def train_picture(
    options: Options, label: str, pixels: np.ndarray, labels: np.ndarray, positions: np.ndarray, *, shape: MlpShape,
    steps: int,
) -> Curve:  # fmt: skip
    """`_trained`, unless an earlier run of the paper's size has it."""
    return options.store.result(
        label,
        (shape, steps, options.seed, digest(pixels, labels, positions)),
        lambda watch: _trained(pixels, labels, positions, shape=shape, steps=steps, seed=options.seed,
                               device=options.device, watch=watch),
        Curve.load,
    )  # fmt: skip


def _trained(
    pixels: np.ndarray, labels: np.ndarray, positions: np.ndarray, *, shape: MlpShape, steps: int, seed: int,
    device: str, watch: Watch,
) -> Curve:  # fmt: skip
    """A network per label; pixels uint8 [H, W, C], positions [H · W, D]: what the networks see. MSE over the whole
    picture, full batch, Adam 1e-4. Networks of segments alike in size are one batch."""
    order = np.argsort(labels, axis=None, kind="stable")
    sizes = np.bincount(labels.ravel())
    values = pixels.reshape(-1, pixels.shape[2])[order].T / np.float32(255)
    cells = UnequalCells(np.ascontiguousarray(values), np.ascontiguousarray(positions[order].T, np.float32), sizes)
    target = resolve_device(device)
    limit = CHUNK_VALUES if target.type == "cpu" else CHUNK_VALUES_GPU
    siren = shape.body == "siren"
    drawn = initial(
        shape, len(sizes), generator=torch.Generator().manual_seed(seed), bias="1/sqrt(in)" if siren else "zero"
    )
    chunks = []
    for rows, some in cells.chunks(values.size):
        mask = torch.ones(1) if some.mask is None else torch.from_numpy(some.mask).unsqueeze(1).float()
        own = [p.detach()[rows].to(target).clone().requires_grad_() for p in drawn]
        chunks.append(
            (own, *(t.to(target) for t in (torch.from_numpy(some.coords), torch.from_numpy(some.values), mask)))
        )

    def loss() -> torch.Tensor:
        total = torch.zeros((), device=target)
        for own, coords, targets, mask in chunks:
            piece = max(1, limit // (len(own[0]) * shape.width))
            for a in range(0, coords.shape[2], piece):  # gradients add up over pieces: a whole picture is gigabytes
                inside = slice(a, a + piece)
                error = forward(shape, own, coords[:, :, inside]) - targets[:, :, inside]
                part = (error * (mask if mask.ndim == 1 else mask[:, :, inside])).square().sum() / cells.n_values
                part.backward()
                total += part.detach()
        return total

    descend(
        [p for own, *_ in chunks for p in own], loss, adam=AdamSettings(RATE), iterations=steps, stage="fit",
        on_step=watch.on_step, psnr_db=lambda mse: float(-10 * np.log10(mse)), keeper=watch,
    )  # fmt: skip
    looks = watch.looks
    return Curve(
        shape.n_parameters * len(sizes), shape.macs, [k.step for k in looks], [k.seconds for k in looks],
        [k.best_db for k in looks],
    )  # fmt: skip


@dataclass(frozen=True)
class Pictures:
    """shape: (H, W) of the picture; tall: of the one that is not square, for scrambled coordinates. widths: units of
    one network, and of each of nine."""

    shape: tuple[int, int]
    steps: int
    tall: tuple[int, int]
    tall_steps: int
    widths: tuple[int, int] = (63, 20)

    @property
    def is_papers(self) -> bool:
        return self.widths == (512, 170)


def run_pog(options: Options, sizes: Pictures) -> Outcome:
    pixels, name = photo(options, "papers/partition-001_L.png", stand_in="coffee")
    steps = sizes.steps
    found, labels = _three(options, resized(pixels, *sizes.shape), steps, sizes.widths)
    tall = resized(pixels, *sizes.tall)
    correct = found
    if sizes.tall != sizes.shape:
        correct, _ = _three(options, tall, sizes.tall_steps, sizes.widths, local=False)
    scrambled, _ = _three(options, tall, sizes.tall_steps, sizes.widths, local=False, scrambled=True)
    if correct is found:
        found = {kind: _quicker(c, scrambled.get(kind, c)) for kind, c in found.items()}
    one, grid = found["one network"], found["PoG, global"]
    ahead = grid.psnr_db[-1] - one.at_seconds(grid.seconds[-1])
    share = grid.pace / one.pace
    looks = [s for s in PAPER["PoG"] if s <= steps]
    rows = [
        (kind, f"{c.parameters:,}", f"{2 * c.macs:,}", *(f"{c.at_step(s):.2f}" for s in looks),
         f"{c.seconds[-1]:.1f} s", f"{c.psnr_db[-1]:.2f}", f"{one.at_seconds(c.seconds[-1]):.2f}")
        for kind, c in found.items()
    ]  # fmt: skip
    paper = [
        (f"the paper's {k}, 700 × 1000", "~792,000", "1.58 M or 175,100", *(f"{v[s]}" for s in looks), "", "", "")
        for k, v in PAPER.items()
    ]
    behind = one.psnr_db[-1] - grid.psnr_db[-1]
    beside = found["PoG, local"].psnr_db[-1] - one.psnr_db[-1]
    body = (
        f"{name} at {sizes.shape[1]} × {sizes.shape[0]}, RGB in [0, 1], a SIREN (first ω 60, then 30, 3 hidden layers "
        f"of {sizes.widths[0]}) against nine of width {sizes.widths[1]}, Adam 1e-4, full batch; grid by the paper's "
        "rule, segments by Felzenszwalb's method and the "
        "paper's merging (smallest region into its smallest neighbour). PSNR ordinary, 10·log10(1/MSE), not clamped, "
        "as in the paper. *Local*: every part's box from −1 to 1, ω 30 throughout. The last column is what one network "
        "had reached by the time that run ended.\n\n"
        + markdown(
            ("", "parameters", "FLOPs per pixel", *(f"step {s}" for s in looks), "time", "end", "one network then"),
            [*rows, *paper],
        )
        + f"\n**At equal steps the paper's gain {'does not appear' if behind > 0 else 'appears'} here**: after "
        f"{steps:,} steps one network is {abs(behind):.1f} dB {'above' if behind > 0 else 'below'} the grid of nine on "
        f"global coordinates; on local ones the grid is {beside:+.1f} dB from it. A step of nine small networks costs "
        f"a ninth of the arithmetic and took {share:.0%} of the time: at equal time the grid is {ahead:+.1f} dB ahead. "
        "The paper's +2.8 dB at equal steps were measured at 700 × 1000 with 791,043 parameters, and on "
        "a signal that its own code had shredded: coordinates are enumerated column by column and pixels row by row, "
        f"which scrambles every picture that is not square. The same at {tall.shape[1]} × {tall.shape[0]} (width × "
        "height), with correct and with scrambled coordinates:\n\n" + _scrambled_text(correct, scrambled, sizes)
    )
    regions = int(labels.max()) + 1
    checks = (
        Check("parameters equal within 1 %", f"{one.parameters:,} and {grid.parameters:,}",
              abs(grid.parameters / one.parameters - 1) <= 0.01),
        Check("PoG at least 3 dB above one network at the same wall time", f"{ahead:+.2f} dB", ahead >= 3),
        Check(f"segments: {PARTS} regions, each connected, every pixel in one",
              f"{regions} regions, {int(components(labels).max()) + 1} components, {labels.size:,} pixels",
              regions == PARTS == int(components(labels).max()) + 1 and labels.min() == 0),
    )  # fmt: skip
    ends = " / ".join(f"{found[k].psnr_db[-1]:.1f}" for k in scrambled)
    ours = f"{ends} dB; {ahead:+.1f} at equal time"
    if sizes.is_papers:
        checks += tuple(_as_published(kind, c) for kind, c in scrambled.items())
        ours += "; scrambled, as published: " + " / ".join(
            f"{c.psnr_db[-1]:.1f} at step {c.steps[-1]}" for c in scrambled.values()
        )
    return Outcome(ours, body, checks)


def _quicker(curve: Curve, other: Curve) -> Curve:
    """The curve, timed by the other run of the same networks where that was quicker: one may have shared its device."""
    if other.pace >= curve.pace:
        return curve
    return replace(curve, seconds=[s * other.pace for s in curve.steps])


def _published(kind: str, curve: Curve) -> dict[int, float]:
    """The paper's PSNR at the steps that a curve gets to."""
    return {s: v for s, v in PAPER[kind.removesuffix(", global")].items() if s <= curve.steps[-1]}


def _as_published(kind: str, curve: Curve) -> Check:
    paper = _published(kind, curve)
    apart = max((abs(curve.at_step(s) - v) for s, v in paper.items()), default=0.0)
    measured = ", ".join(f"{s}: {curve.at_step(s):.2f} ({v})" for s, v in paper.items())
    return Check(f"scrambled as published, {kind}: within 1 dB of the paper's at every step", measured, apart <= 1)


def _scrambled_text(correct: dict[str, Curve], scrambled: dict[str, Curve], sizes: Pictures) -> str:
    """The table of correct and scrambled coordinates; and, at the paper's size, the paper's course beside it."""
    rows, lost = [], {}
    for kind, c in scrambled.items():
        at = c.steps[-1]
        lost[kind] = correct[kind].at_step(at) - c.psnr_db[-1]
        rows.append((kind, at, f"{correct[kind].at_step(at):.2f}", f"{c.psnr_db[-1]:.2f}", f"{c.seconds[-1]:.1f} s"))
    text = markdown(("PSNR", "at step", "correct", "scrambled, as the paper's code", "time"), rows)
    if sizes.is_papers:
        looks = [s for s in PAPER["PoG"] if s <= sizes.tall_steps]
        courses = [
            (kind, *(f"{c.at_step(s):.2f} ({v[s]})" if s in (v := _published(kind, c)) else "–" for s in looks))
            for kind, c in scrambled.items()
        ]
        head = ("scrambled; in brackets the paper's", *(f"step {s}" for s in looks))
        text += "\n" + markdown(head, courses)
    return (
        f"{text}\nScrambling costs "
        + ", ".join(f"{v:.1f} dB ({k})" for k, v in lost.items())
        + ": one network lives on smoothness across parts, which it destroys. The codec's coordinates are (row, "
        "column) with pixels in the same order, checked on non-square pictures, and local.\n"
    )


@dataclass(frozen=True)
class Relu:
    """octaves: None for those below the picture's Nyquist frequency. scrambled: the same on the paper's scrambled
    coordinates, too."""

    shape: tuple[int, int]
    steps: int
    widths: tuple[int, int] = (71, 20)
    octaves: int | None = None
    scrambled: bool = False


def _relu_three(options: Options, sizes: Relu, picture: np.ndarray, *, scrambled: bool) -> tuple[dict[str, Curve], int]:
    """Whole, by grid and by segments; and how many features they saw."""
    height, width = picture.shape[:2]
    positions = (scrambled_positions if scrambled else grid_positions)(height, width)
    features = harmonics(positions, max(height, width), sizes.octaves)
    maps = {
        "one network": np.zeros((height, width), np.int32),
        "PoG": grid_labels(height, width, 3),
        "PoS": segment(picture / np.float32(255), PARTS),
    }
    found = {}
    for kind, labels in maps.items():
        shape = MlpShape(features.shape[1], sizes.widths[kind != "one network"], 3, 3, "relu")
        label = f"{kind}{', scrambled' if scrambled else ''}"
        found[kind] = train_picture(options, label, picture, labels, features, shape=shape, steps=sizes.steps)
    return found, features.shape[1]


def run_relu(options: Options, sizes: Relu) -> Outcome:
    pixels, name = photo(options, "papers/partition-001_L.png", stand_in="coffee")
    steps, picture = sizes.steps, resized(pixels, *sizes.shape)
    found, n = _relu_three(options, sizes, picture, scrambled=False)
    one = found["one network"]
    rows = [
        (kind, f"{c.parameters:,}", f"{2 * c.macs:,}", f"{c.at_step(steps // 4):.2f}", f"{c.psnr_db[-1]:.2f}",
         f"{c.seconds[-1]:.1f} s", f"{one.at_seconds(c.seconds[-1]):.2f}", p)
        for (kind, c), p in zip(found.items(), ("20.0", "23.5", "23.8"), strict=True)
    ]  # fmt: skip
    ahead = {k: c.psnr_db[-1] - one.at_seconds(c.seconds[-1]) for k, c in found.items() if k != "one network"}
    ends_at = "the picture's Nyquist frequency" if sizes.octaves is None else f"k = {sizes.octaves - 1}"
    steps_ahead = {k: found[k].psnr_db[-1] - one.psnr_db[-1] for k in ahead}
    body = (
        f"{name} at {sizes.shape[1]} × {sizes.shape[0]}; ReLU networks, 3 hidden layers, on harmonic features ½ · 2^k "
        "of the global "
        "position. The paper takes k = 0 … 59, of which single precision makes noise from about 20 on; here they end "
        f"at {ends_at} ({n} "
        "features). He's initialisation (uniform, of the variance of the "
        "paper's normal one), zero biases, Adam 1e-4. PSNR ordinary, 10·log10(1/MSE), not clamped.\n\n"
        + markdown(
            ("", "parameters", "FLOPs per pixel", f"step {steps // 4}", f"step {steps}", "time", "one network then",
             "the paper, step 10,000, 700 × 1000"),
            rows,
        )
        + f"\nAt equal steps the parts are {_signed(steps_ahead)} dB from one network, at equal time "
        f"{_signed(ahead)} dB. (The paper's +3.5 dB at equal steps are of shredded coordinates, see above.)\n"
    )  # fmt: skip
    if sizes.scrambled:
        shredded, _ = _relu_three(options, sizes, picture, scrambled=True)
        ends = ", ".join(f"{c.psnr_db[-1]:.2f} ({kind})" for kind, c in shredded.items())
        body += f"\nOn coordinates scrambled as the paper's code has them, PSNR at step {steps:,}: {ends}.\n"
    checks = (
        Check("parameters equal within 1 %", ", ".join(f"{c.parameters:,}" for c in found.values()),
              all(abs(c.parameters / one.parameters - 1) <= 0.01 for c in found.values())),
        Check("PoG and PoS above one network at the same wall time", f"{_signed(ahead)} dB", min(ahead.values()) > 0),
    )  # fmt: skip
    return Outcome(" / ".join(f"{c.psnr_db[-1]:.1f}" for c in found.values()) + f" dB at step {steps:,}", body, checks)


def _three(
    options: Options,
    pixels: np.ndarray,
    steps: int,
    widths: tuple[int, int],
    *,
    local: bool = True,
    scrambled: bool = False,
) -> tuple[dict[str, Curve], np.ndarray]:
    """Whole, by grid and by segments, on global and, with `local`, on local coordinates; and the segments."""
    height, width = pixels.shape[:2]
    grid, segments = grid_labels(height, width, 3), segment(pixels / np.float32(255), PARTS)
    positions = (scrambled_positions if scrambled else grid_positions)(height, width)
    runs: Sequence[tuple[str, np.ndarray, np.ndarray, int, float]] = [
        ("one network", np.zeros((height, width), np.int32), positions, widths[0], 60.0),
        ("PoG, global", grid, positions, widths[1], 60.0),
        ("PoS, global", segments, positions, widths[1], 60.0),
    ]
    if local:
        runs = [
            *runs,
            ("PoG, local", grid, local_positions(grid), widths[1], 30.0),
            ("PoS, local", segments, local_positions(segments), widths[1], 30.0),
        ]
    found = {}
    for kind, labels, seen, units, omega in runs:
        shape = MlpShape(2, units, 3, 3, "siren", omega=omega)
        label = f"{kind}{', scrambled' if scrambled else ''}"
        found[kind] = train_picture(options, label, pixels, labels, seen, shape=shape, steps=steps)
        options.say(f"  {kind}: {found[kind].psnr_db[-1]:.2f} dB in {found[kind].seconds[-1]:.1f} s")
    return found, segments


def _signed(gains: dict[str, float]) -> str:
    return " and ".join(f"{v:+.1f} ({k})" for k, v in gains.items())
