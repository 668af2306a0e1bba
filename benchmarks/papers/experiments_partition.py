"""Partition (arXiv 2310.14184): steps over boundaries, local against global coordinates, and single pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from experiment import Check, Experiment, Options, Outcome, markdown
from keep import digest, duration
from partition_pictures import Pictures, Relu, run_pog, run_relu
from partition_steps import LIMIT, Growth, fit_growth, line_steps, near_square, plane_steps, thresholds

from inrcodec.fields.layers import MlpShape

PAPER_1D = {1: 22, 11: 43, 21: 161, 31: 236, 41: 535, 51: 774, 59: 1713}  # the authors' stored means, by boundaries
PAPER_2D = {27: 37, 115: 105, 220: 162, 325: 381, 430: 1838, 535: 3097}
PAPER_P = {1: 1.066, 2: 1.008}
P_TOLERANCE = {1: 0.015, 2: 0.003}  # a fifth of p − 1 and more: means of 5 runs scatter by a factor of 1.5
QUICK_BOUNDARIES = (11, 31, 51)
# parts, width, local coordinates -> steps that an independent numpy program took, B = 11, 31, 51
PARTS = {
    (1, 32, True): (36, 297, 780),
    (4, 16, False): (68, 400, 1043),
    (8, 11, False): (99, 412, 1090),
    (4, 32, False): (None, 198, 679),
    (4, 16, True): (51, 69, 132),
    (8, 11, True): (82, 89, 105),
    (4, 32, True): (26, 40, 76),
}
# parts per axis, local coordinates, first ω -> width. Among 4 × 4 parts an ω of 30 on local coordinates is 120 on the
# picture's: other ones show what the coordinates do and what the frequency does.
PLANE_PARTS = {
    (1, True, 30): 32,
    (1, True, 60): 32,
    (2, False, 30): 16,
    (4, False, 30): 7,
    (4, False, 60): 7,
    (2, True, 30): 16,
    (4, True, 30): 7,
    (4, True, 15): 7,
}


@dataclass(frozen=True)
class Line:
    """counts: of boundaries, QUICK_BOUNDARIES among them, each for so many signals. side, products: of the 2-D signals
    cut into parts, two of each."""

    counts: tuple[int, ...]
    repeats: int
    side: int = 256
    products: tuple[int, ...] = (50, 100, 150)

    @property
    def grows(self) -> bool:
        """Whether there are enough counts for a fit."""
        return len(self.counts) > 3


def run_1d(options: Options, sizes: Line) -> Outcome:
    counts, repeats = sizes.counts, sizes.repeats
    levels = thresholds([b for b in counts for _ in range(repeats)], np.random.default_rng([options.seed, 1]))
    steps = line_steps(levels, width=32, seed=options.seed, device=options.device)
    found = dict(zip(counts, steps.reshape(-1, repeats), strict=True))
    means = {b: float(np.mean(v)) for b, v in found.items()}
    rows = [(b, PAPER_1D.get(b, "–"), f"{means[b]:.0f}", f"{np.std(v):.0f}") for b, v in found.items()]
    checks = [
        Check(f"mean steps at {b} boundaries within 2× of {PAPER_1D[b]}", f"{means[b]:.0f}",
              PAPER_1D[b] / 2 <= means[b] <= 2 * PAPER_1D[b])
        for b in QUICK_BOUNDARIES
    ]  # fmt: skip
    ours, text = f"steps {', '.join(f'{means[b]:.0f}' for b in QUICK_BOUNDARIES)} at B = 11, 31, 51", ""
    if sizes.grows:
        growth = fit_growth(list(means), list(means.values()))
        ours, text = f"p = {growth.p:.4f}", _growth_text(growth, 1)
        checks.append(_p_check(growth, 1))
    body = (
        "Random step signals of B boundaries on [−1, 1], SIREN 1 → 32, 3 hidden layers, first ω 10, Adam 1e-3, 5,000 "
        f"fresh points a step; the step after which the MSE on 5,000 regular points is below .05 (at most {LIMIT:,}), "
        f"mean and standard deviation of {repeats} signals. The authors' column is their stored data. All runs are one "
        "batch of networks, which each leaves when it is done. One difference saves time: no test is run while the MSE "
        "of the training points is above .2.\n\n"
        + markdown(("boundaries", "authors", "ours", "std"), rows) + "\n" + text
    )  # fmt: skip
    return Outcome(ours, body, tuple(checks))


@dataclass(frozen=True)
class Plane:
    """Signals of x1 · x2 = product thresholds, so many of each, on grids of some sides, of which the last is the
    paper's. apart: each signal is a training of its own, kept when it is done; or a grid's are one batch."""

    products: tuple[int, ...] = (10, 50, 100, 150, 200, 250)
    repeats: tuple[int, ...] = (2, 2, 2, 2, 1, 1)
    sides: tuple[int, ...] = (64, 128, 256)
    apart: bool = False


@dataclass(frozen=True)
class Steps:
    """Of one signal, and the seconds it took."""

    steps: int
    seconds: float


def run_2d(options: Options, sizes: Plane) -> Outcome:
    repeats, sides = sizes.repeats, sizes.sides
    factors = [near_square(product) for product in sizes.products]
    times = " to ".join(str(n) for n in sorted({min(repeats), max(repeats)}))
    signals = [pair for pair, n in zip(factors, repeats, strict=True) for _ in range(n)]
    rng = np.random.default_rng([options.seed, 2])
    down, across = (thresholds([pair[axis] for pair in signals], rng) for axis in (0, 1))
    boundaries = [2 * a * b + a + b for a, b in factors]
    columns, found = {}, {}
    for side in sides:
        if sizes.apart:
            steps = np.array(_one_by_one(options, signals, down, across, side))
        else:
            steps = plane_steps(across, down, side=side, seed=options.seed, device=options.device)
        options.say(f"  {side} × {side}: {steps.tolist()}")
        found[side] = np.split(steps, np.cumsum(repeats)[:-1])
        columns[side] = [float(own.mean()) for own in found[side]]
    growth = fit_growth(boundaries, columns[sides[-1]])
    known = [n for n in boundaries if n in PAPER_2D]
    rows = [
        (n, PAPER_2D.get(n, "–"), *(f"{columns[side][i]:.0f}" for side in reversed(sides)),
         f"{found[sides[-1]][i].std():.0f}", int((found[sides[-1]][i] >= LIMIT).sum()), repeats[i])
        for i, n in enumerate(boundaries)
    ]  # fmt: skip
    head = ("boundaries", "authors, 256²", *(f"ours, {n}²" for n in reversed(sides)), "std", "at the cap", "signals")
    body = (
        f"Products of two step functions, on a {sides[-1]} × {sides[-1]} grid (the paper's: 256 × 256), SIREN 2 → 32, "
        "3 hidden layers, first ω 30, Adam 1e-3, the whole grid every step; boundaries = 2 x₁x₂ + x₁ + x₂. The authors "
        f"ran 25 sizes, 5 signals of each, we {len(factors)} of them, {times} of each; 7 of their 125 runs hit the cap "
        f"of {LIMIT:,} steps.\n\n" + markdown(head, rows) + "\n" + _growth_text(growth, 2)
    )  # fmt: skip
    if len(known) > 3:
        theirs = fit_growth(known, [PAPER_2D[n] for n in known]).p
        body += f"The same fit on the authors' own means of {len(known)} of these sizes gives {theirs:.4f}.\n"
    return Outcome(f"p = {growth.p:.4f}", body, (_p_check(growth, 2),))


def _one_by_one(
    options: Options, signals: Sequence[tuple[int, int]], down: torch.Tensor, across: torch.Tensor, side: int
) -> list[int]:
    """Steps of each signal, trained alone from a seed of its own, so that a run can be cut between two of them."""

    def train(i: int) -> Steps:
        started = time.perf_counter()
        one = slice(i, i + 1)
        steps = plane_steps(across[one], down[one], side=side, seed=options.seed + i, device=options.device)
        return Steps(int(steps[0]), time.perf_counter() - started)

    found: list[Steps] = []
    for i, (a, b) in enumerate(signals):
        key = (side, options.seed + i, LIMIT, digest(down[i].numpy(), across[i].numpy()))
        label = f"signal {i + 1} of {len(signals)}, {2 * a * b + a + b} boundaries"
        found.append(options.store.result(label, key, lambda _, i=i: train(i), lambda kept: Steps(**kept)))
        seconds = np.mean([s.seconds for s in found[-10:]])  # later signals take longer
        left = duration(seconds * (len(signals) - i - 1))
        options.say(f"  {label}: {found[-1].steps} steps, {found[-1].seconds:.0f} s; {left} to go, or more")
    return [s.steps for s in found]


def run_local(options: Options, sizes: Line) -> Outcome:
    repeats = sizes.repeats
    levels = thresholds([b for b in sizes.counts for _ in range(repeats)], np.random.default_rng([options.seed, 3]))
    rows, means = [], {}
    for (parts, width, local), reference in PARTS.items():
        started = time.perf_counter()
        steps = line_steps(levels, width=width, parts=parts, local=local, seed=options.seed, device=options.device)
        means[parts, width, local] = own = steps.reshape(-1, repeats).mean(1)
        kind = "one network" if parts == 1 else f"{parts} parts, {'**local**' if local else 'global'} coordinates"
        n = parts * MlpShape(1, width, 3, 1, "siren").n_parameters
        rows.append(
            (
                f"{kind}, width {width}",
                f"{n:,}",
                *(f"{m:.0f} ({r or '–'})" for m, r in zip(own, reference, strict=True)),
                f"{time.perf_counter() - started:.0f} s",
            )
        )
        options.say(f"  {rows[-1]}")
    one, cut = means[1, 32, True][2], means[4, 16, True][2]
    body = (
        "The signals of the step above, cut into equal parts with a network each, at about equal parameters. In "
        "brackets what an independent numpy program gave. *Global* coordinates are the paper's code: every network "
        "sees its stretch of [−1, 1]. *Local* ones, from −1 to 1 in every part, are ENRP's and the codec's.\n\n"
        + markdown(("mean steps", "parameters", "B = 11", "B = 31", "B = 51", "time"), rows)
        + _plane_in_parts(options, sizes)
    )
    checks = (
        Check("4 parts of width 16, local, B = 51: at most 250 steps", f"{cut:.0f}", cut <= 250),
        Check("one network, B = 51: at least 500 steps", f"{one:.0f}", one >= 500),
    )
    return Outcome(f"{one:.0f} steps whole, {cut:.0f} in 4 local parts (B = 51)", body, checks)


def _plane_in_parts(options: Options, sizes: Line) -> str:
    """The same in 2-D, on the signals of `run_2d`."""
    factors = [near_square(product) for product in sizes.products for _ in range(2)]
    rng = np.random.default_rng([options.seed, 4])
    down, across = (thresholds([pair[axis] for pair in factors], rng) for axis in (0, 1))
    rows = []
    for (parts, local, omega), width in PLANE_PARTS.items():
        started = time.perf_counter()
        steps = plane_steps(
            across, down, side=sizes.side, seed=options.seed, device=options.device, width=width, parts=parts,
            local=local, omega=omega,
        )  # fmt: skip
        kind = f"{parts} × {parts} parts, {'**local**' if local else 'global'} coordinates"
        n = parts**2 * MlpShape(2, width, 3, 1, "siren").n_parameters
        means = [f"{m:.0f}" for m in steps.reshape(-1, 2).mean(1)]
        rows.append((f"{kind if parts > 1 else 'one network'}, ω {omega}, width {width}", f"{n:,}", *means,
                     f"{time.perf_counter() - started:.0f} s"))  # fmt: skip
        options.say(f"  {rows[-1]}")
    columns = [f"B = {2 * a * b + a + b}" for a, b in factors[::2]]
    return (
        f"\nThe same of products of two step functions, {sizes.side} × {sizes.side} samples, two signals of each:\n\n"
        + markdown(("mean steps, 2-D", "parameters", *columns, "time"), rows)
    )


def _growth_text(growth: Growth, axes: int) -> str:
    return (
        f"A cubic through the means, and a·e^(bB) + c through it, as the authors fit it (a in [1, 60], b in [.001, "
        f".1], c in [−100, 10]): a = {growth.a:.1f}, b = {growth.b:.5f}, c = {growth.c:.1f}, so every boundary more "
        f"costs a factor of **p = {growth.p:.4f}** (the authors' data by the same fit: {PAPER_P[axes]}).\n"
    )


def _p_check(growth: Growth, axes: int) -> Check:
    wanted, near = PAPER_P[axes], P_TOLERANCE[axes]
    return Check(f"p = {wanted} ± {near}", f"{growth.p:.4f}", abs(growth.p - wanted) <= near)


EXPERIMENTS = (
    Experiment(
        (15,), "partition-1d", "Partition: steps over boundaries in 1-D", "p = 1.066", run_1d,
        {"quick": Line(QUICK_BOUNDARIES, 3), "full": Line(tuple(range(1, 60, 2)), 5)}, "the paper's",
    ),
    Experiment(
        (16,), "partition-2d", "Partition: steps over boundaries in 2-D", "p = 1.008", run_2d,
        {"quick": Plane((10, 50, 100, 150), (1, 1, 1, 1)), "full": Plane(),
         "paper": Plane(tuple(range(10, 251, 10)), (5,) * 25, (256,), apart=True)},
        "the paper's, 6 of 25 sizes", "2.5 hours on two cores",
    ),
    Experiment(
        (17,), "partition-local", "Partition: local against global coordinates", "not in the paper", run_local,
        {"quick": Line(QUICK_BOUNDARIES, 2, side=64),
         "full": Line(QUICK_BOUNDARIES, 3, products=(50, 100, 150, 200, 250))},
    ),
    Experiment(
        (18, 19), "partition-pog", "Partition: a picture whole, by grid, by segments",
        "23.3 / 26.1 / 26.5 dB at step 1495, 700 × 1000", run_pog,
        {"quick": Pictures((64, 64), 300, (71, 50), 200), "full": Pictures((128, 128), 1500, (150, 105), 1000),
         "paper": Pictures((1000, 700), 1500, (1000, 700), 750, widths=(512, 170))},
        cost="55 hours on two cores (one network 23 h, nine 4 h; with scrambled coordinates half as many steps)",
        whole="the paper's; scrambled: 750 of 1,500 steps",
    ),
    Experiment(
        (20,), "partition-relu", "Partition: ReLU networks whole, by grid, by segments",
        "20.0 / 23.5 / 23.8 dB at step 10,000", run_relu,
        {"quick": Relu((48, 48), 400), "full": Relu((64, 64), 2000),
         "paper": Relu((1000, 700), 10_000, widths=(512, 148), octaves=60, scrambled=True)},
        cost="weeks on two cores (one network a week, with correct and with scrambled coordinates)",
    ),
)  # fmt: skip
