"""Meta-trains networks for the experiments and fits test signals with them; both are kept in build/papers/."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from common import ROOT
from drawn import crops, faces, photo_split, shapes
from experiment import Options
from inrcodec.formats.files import write_atomically
from keep import Ticker

from inrcodec.errors import FormatError
from inrcodec.fields import cellfit
from inrcodec.fields.layers import MlpShape, evaluate
from inrcodec.fields.locate import corner_coordinates
from inrcodec.fitting import AdamSettings, resolve_device
from inrcodec.grid import Grid
from inrcodec.priors import meta
from inrcodec.priors.checkpoint import fingerprint, pack_state, unpack_state
from inrcodec.priors.prior import Prior, survivors

__all__ = [
    "FACES",
    "LEVELS",
    "FaceSizes",
    "Suite",
    "fit",
    "fitted",
    "level",
    "photo_suite",
    "shorter",
    "states",
    "suite_of",
    "two_step",
]

CACHE = ROOT / "build" / "papers"
DEPTH = 3
LEVELS = (4, 8, 10, 12)  # rounds of pruning by 20 %: 41, 16.8, 10.7 and 6.9 % of the weights are left
FIT_STEPS = 100
SAVE_EVERY_S = 120.0
SLICE_VALUES = 2**24  # of one layer, of the test signals evaluated at once


@dataclass(frozen=True)
class FaceSizes:
    """Of the experiments with Meta-SparseINR: a stand-in's, or the paper's (arXiv 2110.14678).

    Signals of size², drawn ones to learn from and to test on, and patches of photos of some short side; the network,
    with one omega in all sine layers; marks: outer steps to look at, besides the last; levels: rounds of pruning to
    look at, 10 and 12 among them; corners: coordinates from -1 to 1, rather than the codec's; other_levels and
    others_share: of shapes and photos, and of the steps, with which they are trained.
    """

    size: int = 32
    n_train: int = 300
    n_tests: int = 20
    short_side: int = 160
    width: int = 64
    omega: float = 30.0
    inner_rate: float = 0.1
    outer_rate: float = 6.7e-5
    fit_rate: float = 6.7e-4
    outer_steps: int = 1200
    steps_per_round: int = 200
    marks: tuple[int, ...] = (0, 200, 400, 600, 800, 1000)
    levels: tuple[int, ...] = LEVELS
    corners: bool = False
    seeds: int = 1
    other_levels: tuple[int, ...] = LEVELS
    others_share: float = 0.5

    @property
    def is_papers(self) -> bool:
        return self.corners


QUICK = FaceSizes(outer_steps=400, steps_per_round=60, marks=(0, 200), other_levels=(8, 10))
FULL = FaceSizes()
PAPER = FaceSizes(
    178, 3000, 100, 200, 256, 200.0, 1e-2, 1e-5, 1e-4, 150_000, 30_000, tuple(range(0, 150_000, 25_000)),
    levels=tuple(range(4, 21)), corners=True, seeds=3, other_levels=tuple(range(4, 21)), others_share=1.0,
)  # fmt: skip
FACES = {"quick": QUICK, "full": FULL, "paper": PAPER}


@dataclass(frozen=True)
class Suite:
    """Signals to learn from and to test on, the dense network, and how long it is trained."""

    name: str
    tasks: meta.Tasks
    tests: np.ndarray  # float32 [n, C, N]
    shape: MlpShape
    settings: meta.MetaSettings
    options: Options
    marks: tuple[int, ...] = ()  # outer steps whose states are kept, besides the ends of rounds
    fit_rate: float = 6.7e-4  # of Adam, on test signals

    @property
    def n_weights(self) -> int:
        return meta.n_weights(self.shape)

    def with_(self, **changes: object) -> Suite:
        return replace(self, settings=replace(self.settings, **changes))  # type: ignore[arg-type]


def suite_of(
    options: Options, sizes: FaceSizes, name: str, signals: Sequence[np.ndarray], tests: Sequence[np.ndarray]
) -> Suite:
    channels, patch = signals[0].shape[-1], (sizes.size, sizes.size)
    tasks = meta.Tasks.of(signals, patch)
    if sizes.corners:
        tasks = replace(tasks, coords=corner_coordinates(Grid.uniform(patch, (1, 1)))[0])
    return Suite(
        name,
        tasks,
        np.stack([t.reshape(-1, channels).T for t in tests]).astype(np.float32),
        MlpShape(2, sizes.width, DEPTH, channels, "siren", omega=sizes.omega, hidden_omega=sizes.omega),
        meta.MetaSettings(
            outer_steps=sizes.outer_steps, steps_per_round=sizes.steps_per_round, inner_rate=sizes.inner_rate,
            outer_rate=sizes.outer_rate, seed=options.seed, device=options.device,
        ),
        options,
        tuple(m for m in sizes.marks if m < sizes.outer_steps),
        sizes.fit_rate,
    )  # fmt: skip


def face_suite(options: Options, sizes: FaceSizes) -> Suite:
    learn, tests = (faces(n, sizes.size, s) for n, s in _drawn(options, sizes))
    return suite_of(options, sizes, "faces", learn, tests)


def shape_suite(options: Options, sizes: FaceSizes) -> Suite:
    """With the paper's own inner rate: starts that longer steps learn lie far from every shape, and pruning spoils
    them."""
    learn, tests = (shapes(n, sizes.size, s) for n, s in _drawn(options, sizes))
    return suite_of(options, sizes, "shapes", learn, tests).with_(inner_rate=PAPER.inner_rate)


def _drawn(options: Options, sizes: FaceSizes) -> tuple[tuple[int, int], tuple[int, int]]:
    """(number, seed) of the signals to learn from and to test on."""
    return (sizes.n_train, options.seed), (sizes.n_tests, options.seed + 10_000)


def photo_suite(options: Options, sizes: FaceSizes) -> tuple[Suite, list[np.ndarray], str]:
    """Patches of photos, split by photo; also the test photos, and what all of them are."""
    learn, kept, name = photo_split(options, sizes.short_side)
    tests = crops(kept, sizes.n_tests, sizes.size, options.seed)
    return suite_of(options, sizes, "photos", learn, tests), kept, name


def shorter(suite: Suite, share: float) -> Suite:
    """Trained for so much of the steps, and not looked at on the way."""
    s = suite.settings
    less = suite.with_(
        outer_steps=round(s.outer_steps * share), steps_per_round=max(1, round(s.steps_per_round * share))
    )
    return replace(less, marks=())


def level(suite: Suite, rounds: int) -> int:
    return survivors(suite.n_weights, rounds)


def schedule(suite: Suite, rounds: int) -> tuple[int, ...]:
    return tuple(level(suite, k) for k in range(1, rounds + 1))


def states(suite: Suite, *, start: meta.MetaState | None = None) -> dict[int, meta.MetaState]:
    """Outer step -> state, at the end of the dense training and of each round, and at suite.marks; from the cache where
    it has them. start: a state of another method to go on from. A run that is cut goes on from its last save."""
    s, shape = suite.settings, suite.shape
    rounds = range(0 if start is None else 1, len(s.schedule) + 1)  # the start itself is another method's
    wanted = {s.outer_steps + k * s.steps_per_round for k in rounds}
    wanted |= set(suite.marks) if start is None else set()
    mark = fingerprint(shape, suite.tasks, s)
    like = meta.first_state(shape, s)

    def path_of(step: int) -> Path:
        return CACHE / f"meta-{suite.name}-{mark[:16]}-{step}.npz"

    found = {}
    for path in CACHE.glob(f"meta-{suite.name}-{mark[:16]}-*.npz"):
        try:
            one = unpack_state(path.read_bytes(), mark, like)
        except (FormatError, ValueError):
            continue
        found[one.step] = one
    missing = wanted - set(found)
    for step in found:
        suite.options.store.used(path_of(step).name)
    before = [one for step, one in found.items() if missing and step < min(missing)]
    state = max(before, key=lambda one: one.step, default=start)
    label = f"{suite.name} {s.method} width {shape.width}{' first order' if s.first_order else ''}"
    ticker, saved = Ticker(suite.options.say, label), time.monotonic()
    passing = path_of(state.step) if before and state.step not in wanted else None
    for one in meta.train(shape, suite.tasks, s, state=state, on_step=ticker) if missing else ():
        if one.step in wanted or time.monotonic() - saved >= SAVE_EVERY_S:
            found[one.step], saved = one, time.monotonic()
            CACHE.mkdir(parents=True, exist_ok=True)
            path = path_of(one.step)
            suite.options.store.counted.add(path.name)
            write_atomically(path, pack_state(one, mark), overwrite=True)
            if passing is not None:  # of the saves on the way only the last is of use
                passing.unlink(missing_ok=True)
            passing = None if one.step in wanted else path
            suite.options.say(f"  {label}: step {one.step:,} of {s.n_steps:,} kept")
    return {step: one for step, one in found.items() if step in wanted}


def fit(suite: Suite, state: meta.MetaState, prunings: dict[int, int] | None = None, steps: int = FIT_STEPS) -> float:
    """PSNR after so many Adam steps on each test signal: mean over signals, not clamped."""
    weights = fitted(suite, state, prunings, steps)
    return _psnr(suite, weights)


def fitted(
    suite: Suite, state: meta.MetaState, prunings: dict[int, int] | None = None, steps: int = FIT_STEPS
) -> np.ndarray:
    _, coords = suite.tasks.networks(suite.tests)
    return cellfit.train(
        suite.shape, cellfit.Cells(suite.tests, np.ascontiguousarray(coords), None), seed=0, iterations=steps,
        device=suite.options.device, on_step=lambda _: None, adam=AdamSettings(suite.fit_rate), start=state.start,
        mask=state.mask, prunings=prunings,
    )  # fmt: skip


def two_step(suite: Suite, state: meta.MetaState) -> float:
    """PSNR after the inner loop's SGD steps on each test signal."""
    import torch

    _, coords = suite.tasks.networks(suite.tests)
    device = resolve_device(suite.options.device)
    start = torch.from_numpy(state.start[None].copy()).to(device)
    found = []
    for some in slices(suite):
        values, at = (torch.from_numpy(a[some]).to(device) for a in (suite.tests, coords))
        weights, _ = meta.adapt(
            suite.shape, start, values=values, coords=at,
            rates=[suite.settings.inner_rate] * suite.settings.inner_steps,
            mask=meta.mask_factors(suite.shape, state.mask, device),
        )  # fmt: skip
        found.append(weights.detach().cpu().numpy())
    return _psnr(suite, np.concatenate(found) * state.mask)


def kept(suite: Suite, what: str, state: meta.MetaState, make: Callable[[], float]) -> float:
    """make(), or what it gave for this state before."""
    h = hashlib.sha256(suite.tests.tobytes() + state.start.tobytes() + state.mask.tobytes() + what.encode())
    path = CACHE / "meta-measured.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    key = h.hexdigest()[:24]
    if key not in known:
        value = make()
        suite.options.store.counted.add(key)
        CACHE.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(known | {key: value}).encode(), overwrite=True)
        return value
    suite.options.store.used(key)
    return float(known[key])


def measures(suite: Suite, state: meta.MetaState, prior: Prior | None = None) -> tuple[float, float]:
    """(PSNR after 100 Adam steps, after 2 SGD steps); prior: of a method that prunes on the way."""
    prunings = prior.prunings(FIT_STEPS) if prior is not None else None
    long = kept(suite, f"fit {FIT_STEPS} {suite.fit_rate} {prunings}", state, lambda: fit(suite, state, prunings))
    return long, kept(suite, "two steps", state, lambda: two_step(suite, state))


def per_layer(suite: Suite, mask: np.ndarray) -> list[float]:
    """Fraction of the weights kept in each matrix."""
    shares, at = [], 0
    for i, o in suite.shape.sizes:
        shares.append(float(mask[at : at + i * o].mean()))
        at += i * o + o
    return shares


def _psnr(suite: Suite, weights: np.ndarray) -> float:
    _, coords = suite.tasks.networks(suite.tests)
    error = np.concatenate([
        np.square(evaluate(suite.shape, weights[s], coords[s]) - suite.tests[s]).mean(axis=(1, 2))
        for s in slices(suite)
    ])  # fmt: skip
    return float(np.mean(-10 * np.log10(error)))


def slices(suite: Suite) -> Iterator[slice]:
    """Of the test signals: as many as fit into memory at once."""
    n, size = len(suite.tests), max(1, SLICE_VALUES // (suite.tests.shape[2] * suite.shape.width))
    yield from (slice(a, a + size) for a in range(0, n, size))


def falls(values: Sequence[float]) -> bool:
    return all(b < a for a, b in pairwise(values))


def make_state_prior(suite: Suite, state: meta.MetaState, method: str, rounds: int = 0) -> Prior:
    return meta.make_prior(
        suite.shape, suite.tasks, replace(suite.settings, method=method), state, kind="image",
        schedule=schedule(suite, rounds), steps=FIT_STEPS, rate=suite.fit_rate,
    )  # fmt: skip
