"""The methods of Meta-SparseINR side by side: every network trained once, measured at every level of pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiment import markdown
from metatrain import LEVELS, Suite, fit, kept, level, make_state_prior, measures, schedule, states

from inrcodec.priors import meta

__all__ = ["METHODS", "PAPER_CELEBA", "STAND_IN", "Line", "dense", "lines", "over_steps"]

STEPS = (0, 1, 2, 5, 10, 20, 50, 100, 200)  # of Adam, on a test signal
METHODS = ("Meta-SparseINR", "Random", "Dense-Narrow", "OneShot", "IMP", "Scratch")
STAND_IN = {  # by an independent re-implementation: 100 Adam steps [2 SGD steps], another drawing of faces
    4: ("33.56 [24.0]", "30.47 [20.4]", "33.97 [22.0]", "35.18", "34.10", "31.10"),
    8: ("30.20 [24.9]", "17.94 [15.4]", "28.41 [18.0]", "28.70", "27.86", "23.39"),
    10: ("29.05 [25.0]", "17.02 [15.0]", "21.70 [16.0]", "26.43", "25.82", "19.98"),
    12: ("28.60 [24.2]", "15.43 [13.9]", "18.19 [15.9]", "22.81", "24.00", "17.73"),
}
PAPER_CELEBA = {  # dB by round of 20 %, in the order of METHODS, read off the paper's figure: ± .3
    4: (40.1, 39.3, 38.8, 35.9, 33.1, 24.6), 5: (38.6, 37.0, 37.6, 33.9, 31.3, 23.6),
    6: (36.7, 35.1, 37.3, 32.2, 30.1, 22.3), 7: (35.4, 33.4, 35.7, 30.7, 28.6, 20.9),
    8: (34.4, 31.7, 34.3, 29.3, 27.4, 19.4), 9: (33.1, 30.2, 31.9, 27.8, 26.1, 17.7),
    10: (31.9, 28.4, 28.7, 26.3, 25.1, 16.4), 11: (30.8, 26.3, 27.7, 24.7, 23.8, 15.4),
    12: (29.7, 23.6, 26.9, 23.0, 22.5, 14.4), 13: (28.7, 20.6, 25.3, 20.9, 21.3, 13.4),
    14: (27.7, 18.6, 22.6, 19.2, 20.0, 12.7), 15: (26.7, 16.6, 20.6, 17.4, 18.8, 12.2),
    16: (25.7, 15.0, 20.4, 15.8, 17.8, 11.9), 17: (24.5, 13.8, 18.4, 14.6, 16.9, 11.3),
    18: (22.9, 12.7, 17.3, 13.6, 16.0, 11.0), 19: (21.1, 12.2, 17.2, 13.0, 15.2, 10.9),
    20: (18.9, 12.1, 16.2, 12.6, 14.7, 10.8),
}  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One level: weights left, of the narrow network its width, and (100 Adam steps, 2 SGD steps) in dB by method."""

    rounds: int
    weights: int
    width: int
    psnr_db: dict[str, tuple[float, float]]


def narrowed(suite: Suite, weights: int) -> Suite:
    """The same of a dense network of about so many weights."""
    return replace(suite, shape=replace(suite.shape, width=meta.narrow_width(suite.shape, weights)))


def dense(suite: Suite) -> dict[int, meta.MetaState]:
    return states(suite)


def pruned(suite: Suite, method: str, levels: tuple[int, ...]) -> dict[int, meta.MetaState]:
    """Rounds -> state, of maml or maml-random, after the dense training that both share."""
    s = suite.settings
    start = dense(suite)[s.outer_steps]
    whole = suite.with_(method=method, schedule=schedule(suite, max(levels)))
    found = states(whole, start=start)
    return {k: found[s.outer_steps + k * s.steps_per_round] for k in levels}


def lines(
    suite: Suite, levels: tuple[int, ...] = LEVELS, methods: tuple[str, ...] = METHODS, *, seeds: int = 1
) -> list[Line]:
    """Means over trainings from so many seeds."""
    first = suite.settings.seed
    runs = [_lines(suite.with_(seed=first + s), levels, methods) for s in range(seeds)]
    return [
        replace(same[0], psnr_db={m: _mean([one.psnr_db[m] for one in same]) for m in methods})
        for same in zip(*runs, strict=True)
    ]


def _mean(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(p[0] for p in pairs) / len(pairs), sum(p[1] for p in pairs) / len(pairs)


def _lines(suite: Suite, levels: tuple[int, ...], methods: tuple[str, ...]) -> list[Line]:
    start = dense(suite)[suite.settings.outer_steps]
    sparse = {m: pruned(suite, k, levels) for m, k in (("Meta-SparseINR", "maml"), ("Random", "maml-random"))}
    made = []
    for rounds in levels:
        left = level(suite, rounds)
        narrow = narrowed(suite, left)
        found: dict[str, tuple[float, float]] = {}
        for method in methods:
            if method in sparse:
                found[method] = measures(suite, sparse[method][rounds])
            elif method == "Dense-Narrow":
                found[method] = measures(narrow, dense(narrow)[suite.settings.outer_steps])
            elif method == "Scratch":
                found[method] = measures(narrow, meta.first_state(narrow.shape, narrow.settings))
            else:
                one = make_state_prior(suite, start, {"OneShot": "maml-one-shot", "IMP": "maml-imp"}[method], rounds)
                found[method] = measures(suite, start, one)
            suite.options.say(f"  {suite.name} {left} weights, {method}: {found[method][0]:.2f} dB")
        made.append(Line(rounds, left, narrow.shape.width, found))
    return made


def over_steps(suite: Suite, levels: tuple[int, ...], rounds: int) -> str:
    """PSNR of the test signals over the steps of Adam, at one of the levels; the first seed's networks."""
    narrow, end = narrowed(suite, level(suite, rounds)), suite.settings.outer_steps
    starts = {"dense": (suite, dense(suite)[end])}
    for method, name in (("Meta-SparseINR", "maml"), ("Random", "maml-random")):
        starts[method] = suite, pruned(suite, name, levels)[rounds]
    starts["Dense-Narrow"] = narrow, dense(narrow)[end]
    rows = []
    for method, (own, state) in starts.items():
        weights = int(state.mask.sum()) - own.shape.n_parameters + own.n_weights
        found = [_after(own, state, n) for n in STEPS]
        rows.append((f"{method}, {weights:,}", *(f"{db:.2f}" for db in found)))
        suite.options.say(f"  {' | '.join(rows[-1])}")
    return markdown(("start, weights", *map(str, STEPS)), rows)


def _after(suite: Suite, state: meta.MetaState, steps: int) -> float:
    return kept(suite, f"fit {steps} {suite.fit_rate} None", state, lambda: fit(suite, state, steps=steps))
