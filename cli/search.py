"""`inrcodec search`: a signal and a grid in, the width and depth that suit its ensemble out."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from inrcodec.cli.options import (
    STREAM,
    check_input,
    human_flops,
    limit_option,
    naming_input,
    naming_output,
    say,
    version_option,
)

if TYPE_CHECKING:
    from inrcodec.fields.base import OnStep
    from inrcodec.search import Evaluation, Problem, Scored, SearchResult, SearchSettings, Sweep
    from inrcodec.search_result import Found
    from inrcodec.settings import EncodeSettings
    from inrcodec.signals import Signal

DEFAULT_FILE = ".search.json"  # instead of the signal's suffix
QUICK_REPEATS, QUICK_ITERATIONS = 1, 200  # of the search that `encode --search` makes by itself


class _Flops(click.ParamType[float]):
    """1000000000, 1e9, 1G or 500M."""

    name = "FLOPS"
    _FACTORS = (("t", 1e12), ("g", 1e9), ("m", 1e6), ("k", 1e3), ("", 1.0))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value).strip().lower()
        suffix, factor = next((s, f) for s, f in self._FACTORS if text.endswith(s))
        with contextlib.suppress(ValueError):
            n = float(text.removesuffix(suffix)) * factor
            if n >= 1:
                return n
        self.fail(f"{value!r} is not a number of FLOPs such as 1G, 500M or 1e9", param, ctx)


class _Numbers(click.ParamType[tuple[int, ...]]):
    """16,32,64 or 1-5; ascending, each once."""

    name = "NUMBERS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        found: set[int] = set()
        for part in str(value).split(","):
            match = re.fullmatch(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*", part)
            if not match or (match[2] and int(match[2]) < int(match[1])):
                self.fail(f"{value!r} is not a list of numbers such as 16,32,64 or 1-5", param, ctx)
            found.update(range(int(match[1]), int(match[2] or match[1]) + 1))
        return tuple(sorted(found))


class _Pair(click.ParamType[tuple[int, int]]):
    """256x3: width and depth."""

    name = "WIDTHxDEPTH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        match = re.fullmatch(r"\s*(\d{1,4})x(\d{1,4})\s*", str(value).lower())
        if not match:
            self.fail(f"{value!r} is not a width and a depth such as 256x3", param, ctx)
        return int(match[1]), int(match[2])


@click.command("search")
@click.argument("source", metavar="SIGNAL")
@click.option("-o", "--output", metavar="FILE", help=f"Where to keep what is found.  [SIGNAL with {DEFAULT_FILE}]")
@click.option("--grid", default="auto", metavar="N|CxR|auto", show_default=True, help="Cells, one network each.")
@click.option(
    "--max-flops", type=_Flops(), help="Of all samples; more do not count.  [1G; for more than 128x128, as many each]"
)
@click.option("--alpha", type=float, default=7, show_default=True, help="dB that ten times the FLOPs must buy.")
@click.option("--widths", type=_Numbers(), default="16,32,64,128,256", show_default=True, help="To choose from.")
@click.option("--depths", type=_Numbers(), default="1-5", show_default=True, help="To choose from.")
@click.option("--start", type=_Pair(), default="256x3", show_default=True, help="Width and depth to start from.")
@click.option("--max-rounds", type=int, default=5, show_default=True, help="Of a width and a depth sweep each.")
@click.option("--exhaustive", is_flag=True, help="Try every pair: finds what the rounds, stuck, may not.")
@click.option("--repeats", type=int, default=5, show_default=True, help="Trainings to take the mean of.")
@click.option("--iterations", type=int, default=500, show_default=True, help="Steps of a training.")
@click.option(
    "--body",
    type=click.Choice(["siren", "relu", "fourier"]),
    default="siren",
    show_default=True,
    help="The functions.",
)
@click.option(
    "--recipe",
    type=click.Choice(["codec", "paper"]),
    default="codec",
    show_default=True,
    help="Train as encode does, or as ENRP did.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first training.")
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--plot", metavar="FILE", help="Draw J and PSNR over FLOPs, with the way taken (.png, .svg, .pdf).")
@click.option("--json", "as_json", is_flag=True, help="All that was found as one JSON object.")
@click.option("-f", "--force", is_flag=True, help="Overwrite what is in the way: another search, a plot.")
@click.option("-n", "--no-overwrite", is_flag=True, help="Leave an existing search or plot alone, without an error.")
@click.option("--progress/--no-progress", default=None, help="Show progress.  [if stderr is a terminal]")
@click.option("--quiet", is_flag=True, help="Only say what goes wrong.")
@click.option("-v", "--verbose", is_flag=True, help="Say what every training gave.")
@limit_option
@version_option
def search(
    *, source: str, output: str | None, plot: str | None, as_json: bool, force: bool, no_overwrite: bool,
    progress: bool | None, quiet: bool, verbose: bool, max_pixels: int, max_flops: float | None, **options: Any,
) -> None:  # fmt: skip
    """Find the width and depth that suit an ensemble's networks.

    Scores PSNR - alpha · log10(FLOPs), by turns over all widths and all depths until nothing changes (Algorithm 1 of
    ENRP). Every training is kept at once: the same command again goes on where it was stopped.

    \b
      inrcodec search photo.png --grid 8
      inrcodec search photo.png --grid 4 --exhaustive --repeats 1 --plot way.png
      inrcodec search talk.wav --grid 32 --max-flops 20G --widths 16,32,64 --json
      inrcodec encode photo.png --search photo.search.json
    """
    if force and no_overwrite:
        raise click.UsageError("-f/--force and -n/--no-overwrite exclude each other")
    check_input(source)
    target = _target(source, output)
    if no_overwrite:
        for path in filter(os.path.isfile, filter(None, (target, plot))):
            if not quiet:
                say(f"{path} exists, left alone")
            return
    _check_outputs(source, target, plot, force)
    if plot:
        import matplotlib  # noqa: F401  (said before hours of training, not after)
    from inrcodec.cli.progress import stage_reporter
    from inrcodec.formats.files import read_signal, write_atomically

    from inrcodec.search import Problem, SearchSettings, default_bound
    from inrcodec.search import search as run
    from inrcodec.search_result import document, pack

    signal = read_signal(source, max_samples=max_pixels)
    if max_flops is None:
        max_flops = default_bound(signal.meta)
    settings = SearchSettings(max_flops=max_flops, **options)
    with naming_input(source):
        problem = Problem.of(signal, settings)
    known = _known(target, problem, force)
    evaluations = list(known)

    def save(result: SearchResult | None) -> dict[str, Any]:
        made = document(problem.facts, settings, evaluations, result)
        with naming_output(target):
            write_atomically(target, pack(made), overwrite=True)
        return made

    def keep(evaluation: Evaluation) -> None:
        evaluations.append(evaluation)
        save(None)
        if verbose and not quiet:
            e = evaluation
            say(f"width {e.width}, depth {e.depth}, seed {e.seed}: PSNR {e.psnr_db:.2f} dB in {e.seconds:.1f} s")

    if not as_json and not quiet:
        click.echo(_heading(source, problem, settings, len(known)))
    try:
        with naming_input(source), stage_reporter(source, progress, quiet) as on_step:
            result = run(
                problem, settings, known=known, on_evaluation=keep,
                on_sweep=(lambda _: None) if as_json or quiet else lambda sweep: click.echo(_table(sweep)),
                on_step=on_step or (lambda _: None),
            )  # fmt: skip
    except KeyboardInterrupt:
        if evaluations and not quiet:
            say(f"{len(evaluations)} trainings are kept in {target}; the same command goes on from there")
        raise
    made = save(result)
    if plot:
        _plot(plot, result, settings)
    if as_json:
        click.echo(json.dumps({"file": source, **made}))
    elif not quiet:
        click.echo(_outcome(result))
        say(f"inrcodec encode {source} --search {target} uses it")


def settings_from(wanted: str, signal: Signal, settings: EncodeSettings, on_step: OnStep | None) -> EncodeSettings:
    """What `encode --search` encodes with: the result in the file `wanted`, or, for 'auto', that of a search made now
    with the defaults, but one training of QUICK_ITERATIONS steps a pair. Raises FormatError, ValueError."""
    from inrcodec.search import Problem, SearchSettings, default_bound, search
    from inrcodec.search_result import Found, chosen_settings

    if wanted != "auto":
        with naming_input(wanted):
            return chosen_settings(_read(wanted), signal, settings)
    asked = SearchSettings(
        grid=settings.grid, body=settings.body_or_default, repeats=QUICK_REPEATS, iterations=QUICK_ITERATIONS,
        seed=settings.seed, device=settings.device, max_flops=default_bound(signal.meta),
    )  # fmt: skip
    problem = Problem.of(signal, asked)
    result = search(problem, asked, on_step=on_step or (lambda _: None))
    return chosen_settings(Found(problem.facts, (), result.best.pair), signal, settings)


def _target(source: str, output: str | None) -> str:
    if output is None and source == STREAM:
        raise click.UsageError("standard input has no name to derive one from: -o FILE names the result")
    return output or str(Path(source).with_suffix(DEFAULT_FILE))


def _check_outputs(source: str, target: str, plot: str | None, force: bool) -> None:
    """Before anything is trained: whether outputs can be written, and destroy nothing."""
    if target == STREAM:
        raise click.UsageError("-o -: the result has to be a file, from which the search can go on; --json prints it")
    if plot and os.path.exists(plot) and not force:
        raise FileExistsError(17, "exists", plot)
    for path in filter(None, (target, plot)):
        itself = source != STREAM and os.path.exists(path) and os.path.samefile(path, source)
        if itself or plot == target:
            raise ValueError(f"{path}: is given for two things")
        if not (folder := Path(path).parent).is_dir():
            raise FileNotFoundError(2, "no such folder", str(folder))
    if plot and Path(plot).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"--plot {plot}: wanted .png, .svg or .pdf")


def _known(target: str, problem: Problem, force: bool) -> tuple[Evaluation, ...]:
    """Evaluations of an earlier search, where the file is one of the same facts."""
    from inrcodec.errors import FormatError

    if not os.path.exists(target):
        return ()
    try:
        found = _read(target)
    except FormatError as error:
        if force:
            return ()
        raise FormatError(f"{target}: {error}; -f overwrites it") from None
    if found.facts == problem.facts:
        return found.evaluations
    if force:
        return ()
    from dataclasses import asdict

    ours, theirs = asdict(problem.facts), asdict(found.facts)
    name = next(name for name in ours if ours[name] != theirs[name])
    told = "another signal" if name in ("digest", "kind") else f"{name} {theirs[name]}, not {ours[name]}"
    raise ValueError(f"{target}: is of {told}; -f overwrites it, -o names another")


def _read(path: str) -> Found:
    from inrcodec.search_result import parse

    return parse(Path(path).read_bytes())


def _heading(source: str, problem: Problem, settings: SearchSettings, known: int) -> str:
    cells = " × ".join(map(str, problem.grid.cells[::-1]))
    again = f", {known} known" if known else ""
    return (
        f"{source}: {cells} cells of {settings.body} networks, mean of {settings.repeats} trainings of "
        f"{settings.iterations} steps ({settings.recipe} recipe{again}), "
        f"at most {human_flops(settings.max_flops)}FLOP, alpha {settings.alpha:g}\n"
        "PSNR: ordinary, and as ENRP counts it, from which J is\n"
    )


def _table(sweep: Sweep) -> str:
    width, depth = sweep.chosen
    along = {"width": f"widths at depth {depth}", "depth": f"depths at width {width}", "both": "every pair"}[sweep.axis]
    if not sweep.tried:
        return f"iteration {sweep.round}, {along}: all too large, on from the smallest\n"
    lines = [
        f"iteration {sweep.round}, {along}",
        f"  {'width':>5} {'depth':>5} {'FLOPs':>9} {'parameters':>12} {'PSNR dB':>8} {'ENRP dB':>8} {'J':>8}",
    ]
    for s in sweep.tried:
        lines.append(
            f"{'*' if s.pair == sweep.chosen else ' '} {s.width:>5} {s.depth:>5} {human_flops(s.flops):>9} "
            f"{s.parameters:>12,} {s.psnr_db:>8.2f} {s.paper_psnr_db:>8.2f} {s.score:>8.2f}"
        )
    return "\n".join(lines) + "\n"


def _outcome(result: SearchResult) -> str:
    b = result.best
    rounds = result.sweeps[-1].round
    how = f"{rounds} iteration{'s' * (rounds > 1)}" + ("" if result.converged else ", the last allowed")
    return f"best after {how}: {_said(b)}"


def _said(s: Scored) -> str:
    return (
        f"width {s.width}, depth {s.depth}, {human_flops(s.flops)}FLOP, {s.parameters:,} parameters, "
        f"PSNR {s.psnr_db:.2f} dB ({s.paper_psnr_db:.2f} as ENRP counts), J {s.score:.2f}"
    )


def _plot(path: str, result: SearchResult, settings: SearchSettings) -> None:
    """J and PSNR of every pair tried over log10 FLOPs, lines from choice to choice."""
    from matplotlib.figure import Figure  # no pyplot: no display, no global state

    scored = {s.pair: s for sweep in result.sweeps for s in sweep.tried}
    way = [scored[s.chosen] for s in result.sweeps if s.chosen in scored]
    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, name, label in zip(
        figure.subplots(1, 2), ("score", "psnr_db"), (f"J (alpha {settings.alpha:g})", "PSNR in dB, ordinary"),
        strict=True,
    ):  # fmt: skip
        axes.plot([s.flops for s in scored.values()], [getattr(s, name) for s in scored.values()], "o", color="0.6")
        axes.plot([s.flops for s in way], [getattr(s, name) for s in way], "-o", color="C0")
        axes.plot(result.best.flops, getattr(result.best, name), "*", color="C3", markersize=14)
        for s in scored.values():
            axes.annotate(f"{s.width}x{s.depth}", (s.flops, getattr(s, name)), fontsize=7, xytext=(4, 2),
                          textcoords="offset points")  # fmt: skip
        axes.set(xscale="log", xlabel="FLOPs", ylabel=label)
    with naming_output(path):
        figure.savefig(path)
