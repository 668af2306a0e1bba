"""`inrcodec prior`: trains networks that ensembles start from, and contexts of pictures; says what such files hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from inrcodec.cli.options import (
    STREAM,
    How,
    check_input,
    claim_output,
    find_inputs,
    human_bytes,
    input_args,
    limit_option,
    naming_input,
    naming_output,
    output_options,
    say,
    version_option,
)

from inrcodec.errors import FormatError
from inrcodec.settings import PRIOR_METHODS

if TYPE_CHECKING:
    from inrcodec.fields.base import OnStep
    from inrcodec.priors.meta import MetaSettings, MetaState, Tasks
    from inrcodec.priors.train_context import ContextState
    from inrcodec.signals import Signal

CONTEXTS = "contexts"
# options of networks that ensembles start from
OF_NETWORKS = (
    "body", "width", "depth", "omega", "patch", "sparsity", "rounds", "outer_steps", "steps_per_round", "inner_steps",
    "inner_rate", "outer_rate", "fit_steps", "batch", "partition",
)  # fmt: skip
S = TypeVar("S", "MetaState", "ContextState")


@click.group("prior")
@version_option
def prior() -> None:
    """Train a network that ensembles start from, or the context network of pictures, or look at one.

    \b
      inrcodec prior train photos/*.jpg -o photos.inp --sparsity .9
      inrcodec encode photo.png --prior photos.inp
      inrcodec decode photo.inr --prior photos.inp
      inrcodec prior train scans/*.png -o contexts.npz --method contexts
      inrcodec encode scan.png --prior contexts.npz
    """


@prior.command("train")
@input_args("signals", "SIGNALS...")
@click.option("-o", "--output", metavar="FILE", required=True, help="The prior, by custom .inp; contexts .npz.")
@click.option(
    "--arch", "body", type=click.Choice(("siren", "relu", "fourier")), default="siren", show_default=True,
    help="The network of every cell.",
)  # fmt: skip
@click.option("--width", type=click.IntRange(1, 4096), default=64, show_default=True, help="Units per layer.")
@click.option("--depth", type=click.IntRange(0, 16), default=3, show_default=True, help="Layers after the first.")
@click.option(
    "--omega", type=click.IntRange(0, 2**20), help="Frequency factor of the first layer.  [30; fourier 4; relu 0]"
)
@click.option("--patch", type=click.IntRange(1, 2**20), help="Samples per axis of a cell.  [32; sounds 1024]")
@click.option(
    "--method", type=click.Choice((*PRIOR_METHODS, CONTEXTS)), default="maml", show_default=True,
    help="Meta-learning and pruning by magnitude in turns, or one of the baselines of Meta-SparseINR; or contexts.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 10**7), help="Of the training of contexts.  [60000]")
@click.option("--sparsity", type=float, default=0.8, show_default=True, help="Fraction of the weights to remove.")
@click.option("--rounds", type=int, help="Prunings it is reached in.  [as many as take 20 % of those left]")
@click.option("--outer-steps", type=int, default=1000, show_default=True, help="Steps before the first pruning.")
@click.option("--steps-per-round", type=int, default=100, show_default=True, help="Steps after each pruning.")
@click.option(
    "--partition", type=click.IntRange(1, 16), metavar="M",
    help="Learn on patches of M cells per axis, which start alike and share a rate per weight and inner step that is"
    " learned, too; encode begins with those steps.",
)  # fmt: skip
@click.option("--inner-steps", type=click.IntRange(1, 16), help="SGD steps on each patch.  [2; with --partition 3]")
@click.option("--inner-rate", type=float, help="Of those steps.  [from --arch and --omega; with --partition 1e-5]")
@click.option("--outer-rate", type=float, help="Of the Adam that moves the start.  [likewise; with --partition 1e-4]")
@click.option(
    "--fit-steps", type=click.IntRange(1, 10**6), default=100, show_default=True, help="Adam steps to encode."
)
@click.option("--batch", type=int, default=3, show_default=True, help="Patches per step.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@limit_option
@output_options
@click.pass_context
def train(
    context: click.Context,
    *, signals: tuple[str, ...], output: str, body: str, width: int, depth: int, omega: int | None, patch: int | None,
    method: str, sparsity: float, rounds: int | None, fit_steps: int, max_pixels: int, how: How,
    partition: int | None, inner_steps: int | None, inner_rate: float | None, outer_rate: float | None,
    steps: int | None, **options: Any,
) -> None:  # fmt: skip
    """Learn from SIGNALS where networks of such signals start best, and which of their weights may go.

    The prior serves signals of one kind and number of channels: alpha is left out, gray pictures among colour ones
    become colour, and gray pictures alone make a prior for gray ones.

    With --method contexts it is the network by which the codes of pictures choose their probabilities that is learned,
    and of the other options --steps, --seed and --device apply. encode --prior codes under it instead of under the
    one in the package.

    Training that is interrupted goes on where it was when the command is given again: its state is kept in
    FILE.part until FILE is written; -f starts anew.

    \b
      inrcodec prior train photos/*.jpg -o photos.inp --sparsity .9
      inrcodec prior train -r faces/ -o faces.inp --width 64 --patch 32 --outer-steps 5000
      inrcodec prior train photos/*.jpg -o photos.inp --partition 2 --patch 16
    """
    if output == STREAM:
        raise click.UsageError("-o -: the prior has to be a file, beside which training keeps its state")
    _refuse_strangers(context, method)
    if not claim_output(signals[0], output, how, kind="a prior file", folder=False):
        return
    if method == CONTEXTS:
        _train_contexts(signals, output, how, max_pixels, steps=steps, seed=options["seed"], device=options["device"])
        return
    from inrcodec.formats.prior_file import pack_prior, unpack_prior

    from inrcodec.fields.layers import FOURIER_FEATURES, MlpShape
    from inrcodec.priors import meta

    samples, kind = meta.alike([signal for _, signal in _read(signals, how, max_pixels)])
    axes, channels = samples[0].ndim - 1, samples[0].shape[-1]
    side = patch or (1024 if kind == "sound" else 32 if axes < 3 else 8)
    tasks = meta.Tasks.of(samples, (side,) * axes, partition or 1)
    omega = {"siren": 30, "fourier": 4, "relu": 0}[body] if omega is None else omega
    features = FOURIER_FEATURES["prior"] if body == "fourier" else 0
    shape = MlpShape(axes, width, depth, channels, body, omega=float(omega), features=features, seed=options["seed"])
    inner, outer, fit = meta.default_rates(omega) if body == "siren" else meta.OTHER_RATES
    n_inner, inner, outer = meta.LEARNED if partition else (2, inner, outer)
    schedule = meta.schedule_for(meta.n_weights(shape), sparsity=sparsity, rounds=rounds)
    asked = meta.MetaSettings(
        method=method, schedule=schedule, inner_steps=inner_steps or n_inner,
        inner_rate=inner if inner_rate is None else inner_rate,
        outer_rate=outer if outer_rate is None else outer_rate,
        learn_rates=partition is not None and method != "scratch", **options,
    )  # fmt: skip
    shape, settings = meta.plan(shape, asked)
    state = _run_meta(shape, tasks, settings, output, how)
    made = meta.make_prior(shape, tasks, settings, state, kind=kind, schedule=schedule, steps=fit_steps, rate=fit)
    data = pack_prior(made)
    unpack_prior(data)  # what cannot be read must not replace the training's state
    _finish(output, data)
    if not how.quiet:
        say(f"{output}: prior {made.id:016x}, {made.counted}, {human_bytes(Path(output).stat().st_size)}")


@prior.command("info")
@click.argument("files", metavar="[FILE...]", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per file and line, with stable keys.")
@version_option
def info(*, files: tuple[str, ...], as_json: bool) -> None:
    """Say what prior files hold; without FILE, what comes with this installation.

    \b
      inrcodec prior info
      inrcodec prior info photos.inp
    """
    from inrcodec.cli.prior_facts import prior_facts

    from inrcodec.priors.shipped import shipped

    for own in [] if files else shipped():
        click.echo(json.dumps(own) if as_json else _shipped_text(own))
    for path in files:
        check_input(path)
        facts, text = prior_facts(path)
        click.echo(json.dumps(facts) if as_json else text)


def _shipped_text(own: dict[str, Any]) -> str:
    size = f"{own['parameters']:,} numbers, {human_bytes(own['bytes'])}"
    return f"{own['file']}  {own['purpose']}\n  {size}, sha256 {own['sha256'][:16]}…"


def _refuse_strangers(context: click.Context, method: str) -> None:
    """Raises UsageError for options given that mean nothing to the method."""
    foreign = {"steps"} if method != CONTEXTS else set(OF_NETWORKS)
    for option in context.command.params:
        given = option.name in foreign and context.get_parameter_source(str(option.name)) == ParameterSource.COMMANDLINE
        if given:
            raise click.UsageError(f"{option.opts[0]} and --method {method}: the one is not for the other")


def _train_contexts(
    signals: tuple[str, ...], output: str, how: How, max_pixels: int, *, steps: int | None, seed: int, device: str
) -> None:
    from inrcodec.fitting import resolve_device
    from inrcodec.priors import train_context as contexts
    from inrcodec.priors.context_file import pack_contexts, unpack_contexts

    resolve_device(device)  # refuses what is not there before the pictures are read
    n = steps or contexts.DEFAULT_STEPS
    pictures = []
    for source, signal in _read(signals, how, max_pixels):
        with naming_input(source):
            pictures.append(contexts.shrunk(signal))
    mark, first = contexts.fingerprint(pictures, steps=n, seed=seed), contexts.first_state(seed)

    def run(on_step: OnStep, state: ContextState) -> Iterator[ContextState]:
        return contexts.states(pictures, steps=n, seed=seed, device=device, on_step=on_step, state=state)

    state = _run(
        output, how, n_steps=n, first=first, run=run, pack=lambda s: contexts.pack_state(s, mark),
        unpack=lambda data: contexts.unpack_state(data, mark, first),
    )  # fmt: skip
    learned, held_out = contexts.split_off(pictures)
    facts = {
        "pictures": len(learned), "codes": state.n_codes, "held out": len(held_out),
        "micro-bits a code": round(1e6 * state.cost), "steps": n, "seed": seed,
    }  # fmt: skip
    data = pack_contexts(*contexts.rounded(state), facts)
    made = unpack_contexts(data)
    _finish(output, data)
    if not how.quiet:
        of = "of pictures held out" if held_out else "of those learned from"
        say(f"{output}: contexts {made.sha256[:16]}…, {state.cost:.4f} bits a code {of}, {human_bytes(len(data))}")


def _read(sources: tuple[str, ...], how: How, max_values: int) -> Iterator[tuple[str, Signal]]:
    """Name and signal, one after the other."""
    from inrcodec.cli.encode import SUFFIXES
    from inrcodec.formats.files import read_signal

    found = find_inputs(sources, how.recursive, lambda p: p.suffix.lower() in SUFFIXES)
    for source, _ in found:
        check_input(source)
        with naming_input(source):
            signal = read_signal(source, max_samples=max_values)
        yield source, signal


def _run_meta(shape: Any, tasks: Tasks, settings: MetaSettings, output: str, how: How) -> MetaState:
    from inrcodec.priors import meta
    from inrcodec.priors.checkpoint import fingerprint, pack_state, unpack_state

    mark, first = fingerprint(shape, tasks, settings), meta.first_state(shape, settings)
    return _run(
        output, how, n_steps=settings.n_steps, first=first,
        run=lambda on_step, state: meta.train(shape, tasks, settings, on_step=on_step, state=state),
        pack=lambda state: pack_state(state, mark), unpack=lambda data: unpack_state(data, mark, first),
    )  # fmt: skip


def _run(
    output: str, how: How, *, n_steps: int, first: S, run: Callable[[OnStep, S], Iterator[S]],
    pack: Callable[[S], bytes], unpack: Callable[[bytes], S],
) -> S:  # fmt: skip
    """Train, with progress; the state is kept beside the output as it goes."""
    from inrcodec.cli.progress import stage_reporter
    from inrcodec.formats.files import write_atomically

    part, state = _part(output), first
    if part.exists() and not how.force:
        with naming_input(str(part)):
            try:
                state = unpack(part.read_bytes())
            except (ValueError, FormatError) as error:
                raise type(error)(f"{error}; -f starts anew") from None
        if not how.quiet:
            say(f"{part}: goes on at step {state.step} of {n_steps}")
    try:
        with stage_reporter(output, how.progress, how.quiet) as on_step:
            for reached in run(on_step or (lambda _: None), state):
                state = reached
                with naming_output(str(part)):
                    write_atomically(part, pack(state), overwrite=True)
    except KeyboardInterrupt:
        if part.exists() and not how.quiet:
            again = "the same command" + (", without -f," if how.force else "")
            say(f"{part} keeps {state.step} of {n_steps} steps; {again} goes on from there")
        raise
    return state


def _finish(output: str, data: bytes) -> None:
    from inrcodec.formats.files import write_atomically

    with naming_output(output):
        write_atomically(output, data, overwrite=True)
    _part(output).unlink(missing_ok=True)


def _part(output: str) -> Path:
    return Path(f"{output}.part")
