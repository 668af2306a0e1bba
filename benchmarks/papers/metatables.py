"""The methods of Meta-SparseINR side by side: every network trained once, measured at every level of pruning."""

from __future__ import annotations

from dataclasses import dataclass, replace

from metatrain import LEVELS, Suite, level, make_state_prior, measures, schedule, states

from inrcodec.priors import meta

__all__ = ["METHODS", "Line", "dense", "lines"]

METHODS = ("Meta-SparseINR", "Random", "Dense-Narrow", "OneShot", "IMP", "Scratch")


@dataclass(frozen=True)
class Line:
    """One level: weights left, of the narrow network its width, and (100 Adam steps, 2 SGD steps) in dB by method."""

    rounds: int
    weights: int
    width: int
    psnr_db: dict[str, tuple[float, float]]


def dense(suite: Suite, marks: tuple[int, ...] = ()) -> dict[int, meta.MetaState]:
    return states(suite, marks=marks)


def pruned(suite: Suite, method: str, levels: tuple[int, ...]) -> dict[int, meta.MetaState]:
    """Rounds -> state, of maml or maml-random, after the dense training that both share."""
    s = suite.settings
    start = dense(suite)[s.outer_steps]
    whole = suite.with_(method=method, schedule=schedule(suite, max(levels)))
    found = states(whole, start=start)
    return {k: found[s.outer_steps + k * s.steps_per_round] for k in levels}


def lines(suite: Suite, levels: tuple[int, ...] = LEVELS, methods: tuple[str, ...] = METHODS) -> list[Line]:
    start = dense(suite)[suite.settings.outer_steps]
    sparse = {m: pruned(suite, k, levels) for m, k in (("Meta-SparseINR", "maml"), ("Random", "maml-random"))}
    made = []
    for rounds in levels:
        left = level(suite, rounds)
        narrow = replace(suite, shape=replace(suite.shape, width=meta.narrow_width(suite.shape, left)))
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
