"""Finds the width and depth that suit an ensemble's networks on a fixed grid: ENRP's Algorithm 1, or every pair.

A pair (width, depth) scores J = PSNR - alpha · log10(FLOPs), its PSNR a mean over trainings from several seeds. Pairs
above max_flops do not count. Algorithm 1 takes the best width at the present depth, then the best depth at that
width, and so on until nothing changes; it can end in a local optimum, which `exhaustive` cannot.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from .cost import ptflops_style
from .fields.base import OnStep
from .fields.cellfit import Cells, fits_at_once, squared_errors, train
from .fields.ensemble import EnsembleField, default_omega
from .fields.layers import FOURIER_FEATURES, MlpShape
from .fields.locate import corner_coordinates, gather
from .fitting import AdamSettings
from .grid import Grid, parse_cells
from .render import widen_alpha
from .settings import EncodeSettings
from .signals import Signal, SignalMeta

__all__ = [
    "PAPER_DB",
    "RECIPES",
    "Evaluation",
    "Facts",
    "Problem",
    "Scored",
    "SearchResult",
    "SearchSettings",
    "Sweep",
    "default_bound",
    "evaluate",
    "search",
    "sweep_all",
    "sweep_by_turns",
]

RECIPES = ("codec", "paper")
BODIES = ("siren", "relu", "fourier")
PAPER_DB = -20 * math.log10(2)  # ENRP's PSNR less the ordinary one: it counts a peak of 1 for signals in [-1, 1]
PAPER_OMEGA = {1: 300.0, 2: 30.0, 3: 30.0}  # by axes; the one of sounds is not given, 300 fits ENRP's Table II best
PAPER_FEATURES = 65

Pair = tuple[int, int]


@dataclass(frozen=True)
class SearchSettings:
    """Options of `inrcodec search`; the defaults are ENRP's, but for the recipe. Raises ValueError.

    recipe: 'codec' trains as `encode` does, 'paper' as ENRP did: linspace(-1, 1) coordinates, which put a cell's
    outermost samples on ±1, plain Adam of 1e-4, first frequency factor 30, and its two rules for biases.
    """

    grid: str = "auto"  # as typed; auto is what ensembles like
    body: str = "siren"
    recipe: str = "codec"
    iterations: int = 500
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    depths: tuple[int, ...] = (1, 2, 3, 4, 5)
    start: Pair = (256, 3)
    max_flops: float = 1e9  # of all samples; the paper's, for 128 × 128 of them: see default_bound
    alpha: float = 7.0  # dB that ten times the FLOPs have to buy
    max_rounds: int = 5
    exhaustive: bool = False
    repeats: int = 5
    seed: int = 0  # of the first training; the others have the seeds after it
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, value, allowed in (("body", self.body, BODIES), ("recipe", self.recipe, RECIPES)):
            if value not in allowed:
                raise ValueError(f"--{name} {value}: wanted one of {', '.join(allowed)}")
        for name, values, low, high in (
            ("widths", (*self.widths, self.start[0]), 1, 4096), ("depths", (*self.depths, self.start[1]), 0, 16),
            ("iterations", (self.iterations,), 1, 10**7), ("repeats", (self.repeats,), 1, 1000),
            ("max-rounds", (self.max_rounds,), 1, 1000), ("seed", (self.seed,), 0, 2**32 - 1 - self.repeats),
            ("max-flops", (self.max_flops,), 1, 1e30), ("alpha", (self.alpha,), 0, 1e6),
        ):  # fmt: skip
            for number in values:
                if not low <= number <= high:
                    raise ValueError(f"--{name} {number:g}: wanted {low:g} to {high:g}")
        if not self.widths or not self.depths:
            raise ValueError("--widths and --depths: wanted at least one each")


@dataclass(frozen=True)
class Facts:
    """What decides an evaluation, besides its pair and seed. digest: of the samples, their shape and kind."""

    digest: str
    kind: str
    shape: tuple[int, ...]
    channels: int
    cells: tuple[int, ...]
    body: str
    recipe: str
    iterations: int


@dataclass(frozen=True)
class Evaluation:
    """One training. psnr_db: ordinary (peak 1 for samples in [0, 1], 2 for sounds), before quantisation."""

    width: int
    depth: int
    seed: int
    psnr_db: float
    seconds: float


@dataclass(frozen=True)
class Scored:
    """A pair, and the mean over its trainings. score: J, with the paper's PSNR."""

    width: int
    depth: int
    flops: int
    parameters: int
    psnr_db: float
    score: float

    @property
    def pair(self) -> Pair:
        return self.width, self.depth

    @property
    def paper_psnr_db(self) -> float:
        return self.psnr_db + PAPER_DB


@dataclass(frozen=True)
class Sweep:
    """The pairs tried along one axis, 'width' or 'depth' ('both': all of them), and the pair that was chosen.

    tried is empty where all of the line is too large; chosen is then its cheapest end.
    """

    round: int
    axis: str
    tried: tuple[Scored, ...]
    chosen: Pair


@dataclass(frozen=True)
class SearchResult:
    """converged: whether the last round changed nothing, rather than being the last allowed."""

    best: Scored
    sweeps: tuple[Sweep, ...]
    converged: bool


@dataclass(frozen=True)
class Problem:
    """A signal's samples by cell, and how networks are fitted to them."""

    facts: Facts
    signal: SignalMeta
    grid: Grid
    cells: Cells

    @classmethod
    def of(cls, signal: Signal, settings: SearchSettings) -> Problem:
        """Raises ValueError for a grid that does not fit."""
        meta = signal.meta
        wanted = parse_cells(settings.grid, meta.shape)
        if wanted is None:
            wanted = EnsembleField.default_cells(meta, EncodeSettings(arch="ensemble", body=settings.body))
        grid = Grid.uniform(meta.shape, wanted)
        facts = Facts(
            digest=digest(signal), kind=meta.kind, shape=meta.shape, channels=meta.channels, cells=grid.cells,
            body=settings.body, recipe=settings.recipe, iterations=settings.iterations,
        )  # fmt: skip
        values, coords, mask = gather(widen_alpha(signal.samples, meta), grid)
        if settings.recipe == "paper":
            coords = corner_coordinates(grid)
        return cls(facts, meta, grid, Cells.of(values, coords, mask))

    def shape(self, width: int, depth: int) -> MlpShape:
        """The network of one cell; seed 0 draws frozen features, whatever the seed of a training."""
        body, axes, paper = self.facts.body, len(self.grid.borders), self.facts.recipe == "paper"
        omega = PAPER_OMEGA[axes] if paper and body == "siren" else float(default_omega(body, self.grid.largest))
        frozen = PAPER_FEATURES if paper else min(FOURIER_FEATURES["ensemble"], width)
        features = frozen if body == "fourier" else 0
        return MlpShape(axes, width, depth, self.signal.channels, body, omega=omega, features=features)

    def flops(self, width: int, depth: int) -> int:
        """Of all samples, by the paper's formula; with frozen features biases count once per cell."""
        frozen = self.facts.body == "fourier"
        fin = self.shape(width, depth).sizes[0][0]
        return ptflops_style(
            self.signal.n_samples, width, depth, fin=fin, fout=self.signal.channels,
            bias_copies=self.grid.n_cells if frozen else 1,
        )  # fmt: skip

    def parameters(self, width: int, depth: int) -> int:
        return self.shape(width, depth).n_parameters * self.grid.n_cells


def search(
    problem: Problem,
    settings: SearchSettings,
    *,
    known: Iterable[Evaluation] = (),
    on_evaluation: Callable[[Evaluation], None] = lambda _: None,
    on_sweep: Callable[[Sweep], None] = lambda _: None,
    on_step: OnStep = lambda _: None,
) -> SearchResult:
    """known: evaluations of an earlier search of the same facts; none of them is made again.

    Raises ValueError where no pair has as few FLOPs as asked for.
    """
    smallest = min(product(settings.widths, settings.depths), key=lambda pair: problem.flops(*pair))
    if (least := problem.flops(*smallest)) > settings.max_flops:
        raise ValueError(
            f"--max-flops {settings.max_flops:,.0f}: too few for any pair; the smallest, width {smallest[0]} and depth "
            f"{smallest[1]}, has {least:,}"
        )
    found = {(e.width, e.depth, e.seed): e for e in known}

    def score(width: int, depth: int) -> Scored:
        seeds = range(settings.seed, settings.seed + settings.repeats)
        missing = [s for s in seeds if (width, depth, s) not in found]
        size = fits_at_once(problem.shape(width, depth), problem.cells, settings.device) if missing else 1
        for a in range(0, len(missing), size):
            for e in evaluate(problem, width, depth, missing[a : a + size], device=settings.device, on_step=on_step):
                found[e.width, e.depth, e.seed] = e
                on_evaluation(e)
        psnr_db = float(np.mean([found[width, depth, s].psnr_db for s in seeds]))
        flops = problem.flops(width, depth)
        j = psnr_db + PAPER_DB - settings.alpha * math.log10(flops)
        return Scored(width, depth, flops, problem.parameters(width, depth), psnr_db, j)

    method = sweep_all if settings.exhaustive else sweep_by_turns
    return method(score, problem.flops, settings, on_sweep)


def default_bound(signal: SignalMeta) -> float:
    """max_flops where none is asked for: the paper's for up to its 128 × 128 samples, as many per sample above."""
    return 1e9 * max(1.0, signal.n_samples / 128**2)


def sweep_by_turns(
    score: Callable[[int, int], Scored],
    flops: Callable[[int, int], int],
    settings: SearchSettings,
    on_sweep: Callable[[Sweep], None] = lambda _: None,
) -> SearchResult:
    """Algorithm 1: coordinate descent from settings.start, whose own FLOPs may be too many. Of equals the cheapest
    is taken. Some pair of the set must be feasible."""
    pair, sweeps, converged = settings.start, list[Sweep](), False
    for n in range(1, settings.max_rounds + 1):
        before = pair
        for axis in ("width", "depth"):
            width, depth = pair
            line = [(w, depth) for w in settings.widths] if axis == "width" else [(width, d) for d in settings.depths]
            line.sort(key=lambda p: flops(*p))
            tried = [score(*p) for p in line if flops(*p) <= settings.max_flops]
            # where all of the line is too large, the cheapest end gives the other axis its best chance
            pair = max(tried, key=lambda s: s.score).pair if tried else line[0]
            sweeps.append(Sweep(n, axis, tuple(tried), pair))
            on_sweep(sweeps[-1])
        if pair == before:
            converged = True
            break
    return SearchResult(score(*pair), tuple(sweeps), converged)


def sweep_all(
    score: Callable[[int, int], Scored],
    flops: Callable[[int, int], int],
    settings: SearchSettings,
    on_sweep: Callable[[Sweep], None] = lambda _: None,
) -> SearchResult:
    """Every pair that max_flops allows."""
    pairs = sorted(set(product(settings.widths, settings.depths)), key=lambda p: flops(*p))
    tried = tuple(score(*p) for p in pairs if flops(*p) <= settings.max_flops)
    best = max(tried, key=lambda s: s.score)
    sweep = Sweep(1, "both", tried, best.pair)
    on_sweep(sweep)
    return SearchResult(best, (sweep,), True)


def evaluate(
    problem: Problem, width: int, depth: int, seeds: Sequence[int], *, device: str, on_step: OnStep
) -> list[Evaluation]:
    """Trainings of one pair from several seeds, in one batch. One that diverges counts as a fit by zeros."""
    started = time.perf_counter()
    shape, cells = problem.shape(width, depth), problem.cells.repeated(len(seeds))
    peak = 2.0 if problem.signal.kind == "sound" else 1.0
    # ENRP has two code paths, of which the one for M > 2 counts the fan-in of a whole batch of layers: worth 8 dB
    bias = "1/sqrt(in)" if max(problem.grid.cells) <= 2 else "1/sqrt(in*out)"
    paper = problem.facts.recipe == "paper"
    weights = train(
        shape, cells, seed=seeds, iterations=problem.facts.iterations, device=device, peak=peak,
        on_step=lambda step: on_step(replace(step, stage=f"width {width} depth {depth}")),
        closed=False if paper else None, bias=bias if paper else None, adam=AdamSettings(1e-4) if paper else None,
        init="siren" if paper else "body",
    )  # fmt: skip
    errors = squared_errors(shape, weights, cells).reshape(len(seeds), -1).sum(axis=1) / problem.cells.n_values
    zeros = float(np.square(problem.cells.values, dtype=np.float64).mean())
    errors = np.maximum(np.where(np.isfinite(errors), errors, zeros), 1e-20)
    seconds = (time.perf_counter() - started) / len(seeds)
    return [
        Evaluation(width, depth, seed, float(10 * np.log10(peak**2 / error)), seconds)
        for seed, error in zip(seeds, errors, strict=True)
    ]


def digest(signal: Signal) -> str:
    """Truncated SHA-256 of kind, shape and samples, hexadecimal."""
    h = hashlib.sha256(repr((signal.meta.kind, signal.samples.shape)).encode())
    h.update(np.ascontiguousarray(signal.samples, "<f4").data)
    return h.hexdigest()[:32]
