"""Meta-trains networks for the experiments and fits test signals with them; both are kept in build/papers/."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from common import ROOT
from drawn import crops, faces, photo_split, shapes
from experiment import Options
from inrcodec.formats.files import write_atomically

from inrcodec.errors import FormatError
from inrcodec.fields import cellfit
from inrcodec.fields.layers import MlpShape, evaluate
from inrcodec.fitting import AdamSettings
from inrcodec.priors import meta
from inrcodec.priors.checkpoint import fingerprint, pack_state, unpack_state
from inrcodec.priors.prior import Prior, survivors

__all__ = ["LEVELS", "Suite", "fit", "fitted", "level", "photo_suite", "states", "suite_of", "two_step"]

CACHE = ROOT / "build" / "papers"
SIZE = 32
WIDTH, DEPTH, OMEGA = 64, 3, 30.0
LEVELS = (4, 8, 10, 12)  # rounds of pruning by 20 %: 41, 16.8, 10.7 and 6.9 % of the weights are left
FIT_STEPS, FIT_RATE = 100, 6.7e-4
SAVE_EVERY = 200  # outer steps


@dataclass(frozen=True)
class Suite:
    """Signals to learn from and to test on, the dense network, and how long it is trained."""

    name: str
    tasks: meta.Tasks
    tests: np.ndarray  # float32 [n, C, N]
    shape: MlpShape
    settings: meta.MetaSettings
    options: Options

    @property
    def n_weights(self) -> int:
        return meta.n_weights(self.shape)

    def with_(self, **changes: object) -> Suite:
        return replace(self, settings=replace(self.settings, **changes))  # type: ignore[arg-type]


def suite_of(options: Options, name: str, signals: Sequence[np.ndarray], tests: Sequence[np.ndarray]) -> Suite:
    """The settings of the stand-in (PAPERS 3.6); --quick trains a third as long."""
    channels = signals[0].shape[-1]
    outer, each = (400, 60) if options.quick else (1200, 200)
    return Suite(
        name,
        meta.Tasks.of(signals, (SIZE, SIZE)),
        np.stack([t.reshape(-1, channels).T for t in tests]).astype(np.float32),
        MlpShape(2, WIDTH, DEPTH, channels, "siren", omega=OMEGA),
        meta.MetaSettings(outer_steps=outer, steps_per_round=each, seed=options.seed, device=options.device),
        options,
    )


def face_suite(options: Options) -> Suite:
    return suite_of(options, "faces", faces(300, SIZE, options.seed), faces(20, SIZE, options.seed + 10_000))


def shape_suite(options: Options) -> Suite:
    return suite_of(options, "shapes", shapes(300, SIZE, options.seed), shapes(20, SIZE, options.seed + 10_000))


def photo_suite(options: Options, short_side: int = 160) -> tuple[Suite, list[np.ndarray], str]:
    """Patches of photos, split by photo; also the test photos, and what all of them are."""
    learn, kept, name = photo_split(options, short_side)
    return suite_of(options, "photos", learn, crops(kept, 20, SIZE, options.seed)), kept, name


def level(suite: Suite, rounds: int) -> int:
    return survivors(suite.n_weights, rounds)


def schedule(suite: Suite, rounds: int) -> tuple[int, ...]:
    return tuple(level(suite, k) for k in range(1, rounds + 1))


def states(
    suite: Suite, *, start: meta.MetaState | None = None, marks: Sequence[int] = ()
) -> dict[int, meta.MetaState]:
    """Outer step -> state, at the end of the dense training and of each round, and at `marks`; from the cache where it
    has them. start: a state of another method to go on from."""
    s, shape = suite.settings, suite.shape
    wanted = {s.outer_steps + k * s.steps_per_round for k in range(len(s.schedule) + 1)} | set(marks)
    mark = fingerprint(shape, suite.tasks, s)
    like = meta.first_state(shape, s)
    state, found = start, {}
    for path in CACHE.glob(f"meta-{suite.name}-{mark[:16]}-*.npz"):
        try:
            one = unpack_state(path.read_bytes(), mark, like)
        except (FormatError, ValueError):
            continue
        found[one.step] = one
        state = one if state is None or one.step > state.step else state
    for one in meta.train(shape, suite.tasks, s, state=state) if not wanted <= set(found) else ():
        if one.step in wanted or one.step % SAVE_EVERY == 0:
            found[one.step] = one
            CACHE.mkdir(parents=True, exist_ok=True)
            path = CACHE / f"meta-{suite.name}-{mark[:16]}-{one.step}.npz"
            write_atomically(path, pack_state(one, mark), overwrite=True)
            suite.options.say(f"  {suite.name} {s.method} width {shape.width}: step {one.step} of {s.n_steps}")
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
        device=suite.options.device, on_step=lambda _: None, adam=AdamSettings(FIT_RATE), start=state.start,
        mask=state.mask, prunings=prunings,
    )  # fmt: skip


def two_step(suite: Suite, state: meta.MetaState) -> float:
    """PSNR after the inner loop's SGD steps on each test signal."""
    import torch

    _, coords = suite.tasks.networks(suite.tests)
    weights, _ = meta.adapt(
        suite.shape, torch.from_numpy(state.start[None].copy()), values=torch.from_numpy(suite.tests),
        coords=torch.from_numpy(coords), rates=[suite.settings.inner_rate] * suite.settings.inner_steps,
        mask=meta.mask_factors(suite.shape, state.mask, torch.device("cpu")),
    )  # fmt: skip
    return _psnr(suite, weights.detach().numpy() * state.mask)


def kept(suite: Suite, what: str, state: meta.MetaState, make: Callable[[], float]) -> float:
    """make(), or what it gave for this state before."""
    h = hashlib.sha256(suite.tests.tobytes() + state.start.tobytes() + state.mask.tobytes() + what.encode())
    path = CACHE / "meta-measured.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    key = h.hexdigest()[:24]
    if key not in known:
        value = make()
        CACHE.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(known | {key: value}).encode(), overwrite=True)
        return value
    return float(known[key])


def measures(suite: Suite, state: meta.MetaState, prior: Prior | None = None) -> tuple[float, float]:
    """(PSNR after 100 Adam steps, after 2 SGD steps); prior: of a method that prunes on the way."""
    prunings = prior.prunings(FIT_STEPS) if prior is not None else None
    long = kept(suite, f"fit {FIT_STEPS} {FIT_RATE} {prunings}", state, lambda: fit(suite, state, prunings))
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
    error = np.square(evaluate(suite.shape, weights, coords) - suite.tests).mean(axis=(1, 2))
    return float(np.mean(-10 * np.log10(error)))


def falls(values: Sequence[float]) -> bool:
    return all(b < a for a, b in pairwise(values))


def make_state_prior(suite: Suite, state: meta.MetaState, method: str, rounds: int = 0) -> Prior:
    return meta.make_prior(
        suite.shape, suite.tasks, replace(suite.settings, method=method), state, kind="image",
        schedule=schedule(suite, rounds), steps=FIT_STEPS, rate=FIT_RATE,
    )  # fmt: skip
