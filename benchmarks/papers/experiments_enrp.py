"""ENRP's tables and its convergence: ensembles of SIRENs on a picture and on a sound, before any quantisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from enrp_recipe import (
    CONVENTION,
    FEATURES,
    ORDINARY_DB,
    SIDE,
    TABLE_ONE,
    Fitted,
    Network,
    fit_all,
    fit_kept,
    near,
    paper_picture,
    threads,
)
from experiment import Check, Experiment, Options, Outcome, audio_clip, markdown

from inrcodec.cost import ptflops_style

__all__ = ["EXPERIMENTS"]

PAPER_TABLE_ONE = {"SIREN": 34.12, "S0": 33.80, "S1": 36.51, "S2": 67.51, "S3": 75.26, "S4": 83.08}
# an independent numpy re-implementation: on the paper's picture, and on scikit-image's astronaut
OTHERS_TABLE_ONE = {"SIREN": 34.08, "S0": 34.16, "S1": 36.67, "S2": 67.62, "S3": 74.53, "S4": 82.82}
OTHERS_ASTRONAUT = {"SIREN": 34.34, "S0": 29.2, "S1": 33.95, "S2": 58.3, "S4": 72.2}
FIGURE_FOUR = {
    "SIREN": {50: 21.2, 80: 23.4, 100: 24.4, 200: 27.8},
    "S2": {50: 14.3, 80: 26.3, 100: 33.4, 200: 50.0, 300: 59.1},
    "S3": {50: 18.6, 80: 33.9, 100: 40.9, 200: 58.3, 300: 64.3},
    "S4": {50: 27.4, 80: 40.2, 100: 45.7, 200: 58.4, 300: 67.5},
}
FIGURE_FOUR_STEPS = (50, 80, 100, 200, 300)
PUBLISHED_FLOPS = {
    "SIREN": "6.48 G", "S0": "681.58 M", "S1": "278.92 M", "S2": "557.84 M", "S3": "557.84 M", "S4": "557.84 M",
    "FF-ENRP": "558.11 M", "ReLU-ENRP": "557.84 M",
}  # fmt: skip
PARAMETERS = (198_915, 84_748, 139_312, 1_106_112, 4_424_448, 17_697_792)  # of TABLE_ONE
AUDIO_PAPER = {"SIREN": 44.56, "P0": 36.02, "P1": 35.91, "P2": 36.26, "P3": 42.23, "P4": 50.89}
AUDIO_OMEGA = 1000.0
AUDIO = (
    Network("SIREN", 1, 3, 256, omega=3000),
    *(Network(f"P{i}", 2 ** (i + 1), 5, 64, omega=AUDIO_OMEGA) for i in range(5)),
)
OMEGA_PARTS = (9, 24)  # of P4's 32 parts of the whole file
AUDIO_START_S, AUDIO_SECONDS = 2.0, 0.5


@dataclass(frozen=True)
class TableOne:
    """seeds: of the networks with the widest spreads; the others have one. stand_in: the astronaut in any case."""

    networks: tuple[str, ...] = tuple(n.name for n in TABLE_ONE)
    steps: int = 500
    siren_steps: int = 500
    seeds: Mapping[str, int] = field(default_factory=dict)
    stand_in: bool = False


def table_one(options: Options, sizes: TableOne) -> Outcome:
    """Rows 1 and 3; conditions are about the mean over seeds."""
    options = replace(options, data=None) if sizes.stand_in else options
    samples, name, is_papers = paper_picture(options)
    chosen = [n for n in TABLE_ONE if n.name in sizes.networks]
    steps = {n.name: sizes.siren_steps if n.name == "SIREN" else sizes.steps for n in chosen}
    found = fit_all(options, samples, chosen, steps)
    again = {
        n.name: [
            fit_kept(options, samples, n, steps=steps[n.name], seed=options.seed + s).last_db
            for s in range(1, sizes.seeds.get(n.name, 1))
        ]
        for n in chosen
    }
    means = {n: float(np.mean([f.last_db, *again[n]])) for n, f in found.items()}
    others = OTHERS_TABLE_ONE if is_papers else OTHERS_ASTRONAUT
    rows = []
    for n in chosen:
        f = found[n.name]
        rows.append((
            n.name, n.m, n.depth, n.width, f"{n.n_parameters:,}", steps[n.name], PAPER_TABLE_ONE[n.name],
            _number(others.get(n.name)), f"**{f.last_db:.2f}**", f"{f.best_db:.2f}", f"{f.last_db + ORDINARY_DB:.2f}",
            f"{f.seconds:.0f}", ", ".join(f"{v:.2f}" for v in again[n.name]) or "–",
            f"{means[n.name]:.2f}",
        ))  # fmt: skip
    body = CONVENTION + (
        f"Picture: {name}. 'last' is what Table I prints, the last loss of a loop of 501 steps (weights after 500); "
        "'best' is the best of every tenth step. 'other' is an independent numpy re-implementation of the recipe on "
        f"this picture; 'again' are our own runs with the next seeds, 'mean' is over all of them. Seconds "
        f"with {threads()}.\n\n"
    )
    if not is_papers:
        body += "The paper's column is for its own picture, not for this one.\n\n"
    head = (
        "", "M", "d", "w", "parameters", "steps", "paper", "other", "last", "best", "last, ordinary", "s", "again",
        "mean",
    )  # fmt: skip
    body += markdown(head, rows) + "\n" + _figure_four(found, is_papers)
    checks = _table_one_checks(found, means, others, is_papers=is_papers, sizes=sizes)
    if find_spec("matplotlib") is None or sizes.stand_in:
        return Outcome(_table_one_line(found), body, checks)
    body += "\n![PSNR over steps](papers/enrp-fig4.png)\n"
    return Outcome(_table_one_line(found), body, checks, {"enrp-fig4.png": _draw_curves(found)})


def _table_one_line(found: dict[str, Fitted]) -> str:
    return " / ".join(f"{f.last_db:.2f}" for f in found.values()) + " dB"


def _figure_four(found: dict[str, Fitted], is_papers: bool) -> str:
    """Figure 4's table, ours with the published curve's value in brackets."""
    rows = []
    for name, f in found.items():
        cells = []
        for step in FIGURE_FOUR_STEPS:
            theirs = FIGURE_FOUR.get(name, {}).get(step) if is_papers else None
            ours = f"{f.curve[step]:.1f}" if step in f.curve else "–"
            cells.append(ours + (f" ({theirs:.1f})" if theirs is not None else ""))
        rows.append((name, *cells))
    text = "Figure 4, convergence: PSNR after so many steps (in brackets: read off a re-implementation's run).\n\n"
    return text + markdown(("network", *(f"step {s}" for s in FIGURE_FOUR_STEPS)), rows)


def _table_one_checks(
    found: dict[str, Fitted], means: dict[str, float], others: dict[str, float], *, is_papers: bool, sizes: TableOne
) -> tuple[Check, ...]:
    wanted = PAPER_TABLE_ONE if is_papers else others
    whose = "the paper's" if is_papers else "the re-implementation's"
    checks = []
    for name, db in means.items():
        if name in wanted and not (name == "SIREN" and sizes.siren_steps < sizes.steps):
            n = sizes.seeds.get(name, 1)
            mean = f", mean of {n} seeds" if n > 1 else ""
            claim = f"{name} within 1 dB of {whose} {wanted[name]:.2f}{mean}"
            checks.append(Check(claim, f"{db:.2f}", near(db, wanted[name])))
    siren, step = found["SIREN"].curve, 80 if is_papers else 100
    for name in (n for n in ("S2", "S3", "S4") if n in found):
        if not {step} <= set(siren) & set(found[name].curve):
            continue
        ours = found[name].curve[step]
        measured = f"{ours:.1f} and {siren[step]:.1f} dB"
        checks.append(Check(f"{name} above SIREN at step {step}", measured, ours > siren[step]))
    if sizes.stand_in:
        gap = found["S2"].last_db - found["S1"].last_db
        checks.append(Check("S2 above S1 by more than 15 dB", f"{gap:.1f} dB", gap > 15))
        checks.append(Check("SIREN within 1 dB of 22.0 at step 100", f"{siren[100]:.2f}", near(siren[100], 22.0)))
    elif "S4" in found:
        seconds = found["S4"].seconds
        checks.append(Check("S4, 500 steps, within 90 s", f"{seconds:.0f} s, {threads()}", seconds <= 90))
    return tuple(checks)


def _draw_curves(found: dict[str, Fitted]) -> Callable[[Path], None]:
    def draw(path: Path) -> None:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
        for name, f in found.items():
            axes.plot(list(f.curve), list(f.curve.values()), label=name)
        axes.set_xlabel("Adam steps")
        axes.set_ylabel("PSNR in dB, ENRP's convention")
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path, dpi=100)
        pyplot.close(figure)

    return draw


def counts(options: Options, sizes: None) -> Outcome:
    """Row 2: every published count, to the printed digit."""
    relu = replace(TABLE_ONE[-1], name="ReLU-ENRP", body="relu")
    fourier = Network("FF-ENRP", 32, 0, 128, "fourier")
    networks = (*TABLE_ONE, fourier, relu)
    rows, checks = [], []
    for n in networks:
        printed = f"{n.flops / 1e9:.2f} G" if n.flops >= 1e9 else f"{n.flops / 1e6:.2f} M"
        wanted, pixels = PUBLISHED_FLOPS[n.name], SIDE**2
        rows.append((
            n.name, f"{n.n_parameters:,}", f"{4 * n.n_parameters / pixels:,.1f}", f"{n.flops:,}", printed, wanted,
            f"{2 * (n.shape(2, 3).macs - (2 * FEATURES if n.body == 'fourier' else 0)):,}",
        ))  # fmt: skip
        checks.append(Check(f"{n.name}: {wanted}FLOPs", printed, printed == wanted))
    checks += [
        Check(f"{n.name}: {wanted:,} parameters", f"{n.n_parameters:,}", n.n_parameters == wanted)
        for n, wanted in zip(TABLE_ONE, PARAMETERS, strict=True)
    ]
    ratio = TABLE_ONE[0].flops / TABLE_ONE[-1].flops
    checks.append(Check("SIREN costs 11.62 times S4", f"{ratio:.2f}", f"{ratio:.2f}" == "11.62"))
    head = ("network", "parameters", "fp32 bytes/pixel", "FLOPs", "printed", "paper", "FLOPs/pixel without biases")
    n = 308_207  # of gt_bach.wav
    sound = [ptflops_style(n, w, d, fin=1, fout=1) / 1e9 for w, d in ((256, 3), (64, 5))]
    body = (
        f"Of a picture of {SIDE} × {SIDE}, by the formula 2·[N²·(2w + d·w² + 3w) + w·(d + 1) + 3]: the biases once per "
        "network, sines not counted, the same for every number of cells. The paper's FF figure comes out only where "
        "biases count once per cell and the frozen projection not at all; so it is counted here too.\n\n"
        + markdown(head, rows)
        + "\nThe picture has 49,152 values: S2 to S4 hold 22 to 360 times as many parameters. They memorise; it is no "
        "compression. The paper's Table II prints the picture's figures (6.48 G, 681.58 M) for sounds too. What the "
        f"whole {n:,} samples cost with one input and one output: {sound[0]:.1f} G for SIREN, {sound[1]:.2f} G for "
        f"P0 to P4, {sound[0] / sound[1]:.2f} times less.\n"
    )
    held = sum(c.holds for c in checks)
    return Outcome(f"{held} of {len(checks)} figures to the printed digit", body, tuple(checks))


@dataclass(frozen=True)
class Audio:
    """seconds: of the clip, None for all of it. omega: first one of P0 to P4. omegas: to compare, at 30 and 1000 at
    least."""

    seconds: float | None
    steps: int = 500
    networks: tuple[str, ...] = tuple(n.name for n in AUDIO)
    omega: float = AUDIO_OMEGA
    omegas: tuple[int, ...] = (30, 300, 1000)


def audio(options: Options, sizes: Audio) -> Outcome:
    """Row 8."""
    sound, rate, name = audio_clip(options)
    steps, seconds = sizes.steps, sizes.seconds or len(sound) / rate
    chosen = [n if n.name == "SIREN" else replace(n, omega=sizes.omega) for n in AUDIO if n.name in sizes.networks]
    fits = sizes.seconds is not None and len(sound) >= (AUDIO_START_S + seconds) * rate
    start = int(AUDIO_START_S * rate) if fits else 0
    clip = sound[start : start + round(seconds * rate), None]
    clip = clip / np.abs(clip).max()
    found = fit_all(options, clip, chosen, steps)
    silent = float(-10 * np.log10(np.mean(clip**2)))
    omegas = _omegas(options, sound, sizes.omegas, steps)
    rows = [
        (n.name, n.m, n.depth, n.width, f"{n.omega:g}", AUDIO_PAPER.get(n.name, "–"), f"**{f.last_db:.2f}**",
         f"{f.best_db:.2f}", f"{f.last_db + ORDINARY_DB:.2f}", f"{f.seconds:.0f}")
        for n, f in zip(chosen, found.values(), strict=True)
    ]  # fmt: skip
    body = (
        "PSNR as ENRP counts sounds: 10·log10(1/MSE) of amplitudes divided by the largest, peak 1; the ordinary one of "
        "this page, peak-to-peak, is 6.02 dB more. Nothing is clipped or quantised.\n\n"
        f"{name} from {start / rate:g} s on, {seconds:g} s of its mono mix ({len(clip):,} samples; the paper: all "
        f"308,207), {steps} steps; silence alone scores {silent:.2f} dB. SIREN: that work's own recipe for sound, "
        f"first omega 3000, one network over the clip. P: M parts, each with its own time in [−1, 1], first omega "
        f"{sizes.omega:g} (the paper does not give it; a constant 300 comes nearest to its figures). Seconds with "
        f"{threads()}.\n\n"
    )
    head = ("network", "parts", "d", "w", "first omega", "paper", "last", "best", "last, ordinary", "s")
    body += markdown(head, rows) + "\n"
    if sizes.seconds is not None:
        body += (
            f"The clip is {len(sound) / len(clip):.0f} times shorter than the file, and SIREN's 198,000 weights have "
            f"{len(clip):,} samples to remember instead of 308,207: what the paper's order rests on, that one network "
            "is "
            "too small for the file, is not so here. Parts are shorter too, their frequencies in radians per unit "
            "lower.\n\n"
        )
    body += (
        "The first omega was measured at the paper's own length of a part: "
        f"{len(OMEGA_PARTS)} of P4's 32 parts of the whole file, which do not depend on the others, {steps} steps.\n\n"
    )
    body += markdown(
        ("first omega, P4 at the paper's length", "last", "last, ordinary"),
        [(o, f"{f.last_db:.2f}", f"{f.last_db + ORDINARY_DB:.2f}") for o, f in omegas.items()],
    )
    line = " / ".join(f"{name} {f.last_db:.2f}" for name, f in found.items()) + " dB"
    return Outcome(line, body, _audio_checks(found, omegas))


def _omegas(options: Options, sound: np.ndarray, omegas: tuple[int, ...], steps: int) -> dict[int, Fitted]:
    """Some parts of P4 as long as the paper's, by first omega."""
    parts = np.array_split(sound / np.abs(sound).max(), 32)
    n = len(parts[-1])
    samples = np.concatenate([parts[p][:n] for p in OMEGA_PARTS])[:, None]
    found = {}
    for omega in omegas:
        network = Network("P4", len(OMEGA_PARTS), 5, 64, omega=omega)
        found[omega] = fit_kept(options, samples, network, steps=steps, bias=AUDIO[-1].bias)
    return found


def _audio_checks(found: dict[str, Fitted], omegas: dict[int, Fitted]) -> tuple[Check, ...]:
    siren, most = found["SIREN"].last_db, found["P4"].last_db
    fewer = {name: f.last_db for name, f in found.items() if name in ("P0", "P1", "P2", "P3")}
    gap = omegas[1000].last_db - omegas[30].last_db
    return (
        Check("P4 above SIREN", f"{most:.2f} and {siren:.2f} dB", most > siren),
        Check(
            "SIREN above " + ", ".join(fewer),
            f"{siren:.2f} and " + ", ".join(f"{v:.2f}" for v in fewer.values()),
            siren > max(fewer.values()),
        ),
        Check("P4's parts with first omega 30 are worse by 8 dB or more than with 1000", f"{gap:.2f} dB", gap >= 8),
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


EXPERIMENTS = (
    Experiment(
        (1, 3), "enrp-table1", "ENRP Table I and figure 4: pictures",
        "34.12 / 33.80 / 36.51 / 67.51 / 75.26 / 83.08 dB", table_one,
        {"quick": TableOne(("SIREN", "S1", "S2"), siren_steps=100, stand_in=True),
         "full": TableOne(seeds={"S2": 3, "S4": 2}), "paper": TableOne(seeds={"S2": 5, "S4": 5})},
        "the paper's, few seeds", "17 minutes on two cores",
    ),
    Experiment((2,), "enrp-counts", "ENRP: parameters and FLOPs", "6.48 G … 557.84 M, 558.11 M", counts,
               {"quick": None, "full": None}, "the paper's"),
    Experiment(
        (8,), "enrp-audio", "ENRP Table II: sound", "44.56; P0 to P4 36.02 / 35.91 / 36.26 / 42.23 / 50.89 dB", audio,
        {"quick": Audio(0.25, 200, ("SIREN", "P2", "P4"), omegas=(30, 1000)), "full": Audio(AUDIO_SECONDS),
         "paper": Audio(None, omega=300.0)},
        cost="2 hours on two cores (SIREN 1 h, P0 to P4 10 minutes each)",
    ),
)  # fmt: skip
