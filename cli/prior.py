"""`inrcodec prior`: trains networks that ensembles start from, and contexts of pictures; says what such files hold."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from inrcodec.cli.options import (
    STREAM,
    How,
    check_input,
    claim_output,
    human_bytes,
    input_args,
    limit_option,
    naming_input,
    naming_output,
    output_options,
    say,
    version_option,
)
from inrcodec.cli.training import beside, finish, kept_state, read_signals, reading_again, run_training, say_kept

from inrcodec.settings import PRIOR_METHODS

if TYPE_CHECKING:
    from PIL.Image import Image

    from inrcodec.priors.meta import MetaSettings, MetaState, Tasks
    from inrcodec.priors.recording import Record

CONTEXTS = "contexts"
RECORDS = "codes.part"  # suffix of the file beside the output with what is learned from
# options of networks that ensembles start from
OF_NETWORKS = (
    "body", "width", "depth", "omega", "patch", "sparsity", "rounds", "outer_steps", "steps_per_round", "inner_steps",
    "inner_rate", "outer_rate", "fit_steps", "batch", "partition",
)  # fmt: skip


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
    and of the other options --steps, --seed, --device and -j apply. First the pictures are coded and what there is to
    see is recorded, in N processes, about a minute a megapixel on each; then it is trained. encode --prior codes under
    it instead of under the one in the package.

    Training that is interrupted goes on where it was when the command is given again: its state is kept in
    FILE.part, and what was recorded for contexts in FILE.codes.part, some 10 MB a megapixel, until FILE is written;
    -f starts anew.

    \b
      inrcodec prior train photos/*.jpg -o photos.inp --sparsity .9
      inrcodec prior train -r faces/ -o faces.inp --width 64 --patch 32 --outer-steps 5000
      inrcodec prior train photos/*.jpg -o photos.inp --partition 2 --patch 16
    """
    if output == STREAM:
        raise click.UsageError("-o -: the prior has to be a file, beside which training keeps its state")
    _refuse_strangers(context, method)
    # a training that is under way has been allowed to write FILE
    under_way = not how.no_overwrite and any(beside(output, kind).exists() for kind in ("part", RECORDS))
    allowed = replace(how, force=how.force or under_way)
    if not claim_output(signals[0], output, allowed, kind="a prior file", folder=False):
        return
    if method == CONTEXTS:
        _train_contexts(signals, output, how, max_pixels, steps=steps, seed=options["seed"], device=options["device"])
        return
    from inrcodec.formats.prior_file import pack_prior, unpack_prior

    from inrcodec.fields.layers import FOURIER_FEATURES, MlpShape
    from inrcodec.priors import meta

    samples, kind = meta.alike([signal for _, signal in read_signals(signals, how, max_pixels)])
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
    finish(output, data, beside(output))
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
    foreign = {"steps", "jobs"} if method != CONTEXTS else set(OF_NETWORKS)
    for option in context.command.params:
        given = option.name in foreign and context.get_parameter_source(str(option.name)) == ParameterSource.COMMANDLINE
        if given:
            raise click.UsageError(f"{option.opts[0]} and --method {method}: the one is not for the other")


def _train_contexts(
    signals: tuple[str, ...], output: str, how: How, max_pixels: int, *, steps: int | None, seed: int, device: str
) -> None:
    from inrcodec.fitting import resolve_device
    from inrcodec.priors import recording
    from inrcodec.priors import train_context as contexts
    from inrcodec.priors.context_file import pack_contexts, unpack_contexts

    resolve_device(device)  # refuses what is not there before the pictures are read
    n = steps or contexts.DEFAULT_STEPS
    pictures = []
    for source, signal in read_signals(signals, how, max_pixels):
        with naming_input(source):
            pictures.append(recording.shrunk(signal))
    records_mark = recording.mark_of(pictures, seed)
    mark, first = contexts.fingerprint(records_mark, steps=n), contexts.first_state(seed)
    state = kept_state(
        output, how, n_steps=n, first=first, unpack=lambda data: contexts.unpack_state(data, mark, first)
    )
    if state.step < n:
        data, held = contexts.training_data(_recorded(pictures, records_mark, seed, output, how), device)
        state = run_training(
            output, how, n_steps=n, state=state,
            run=lambda on_step, state: contexts.train(state, data, held, steps=n, seed=seed, on_step=on_step),
            pack=lambda state: contexts.pack_state(state, mark),
            told=lambda state: _told(state.cost), whole_steps=True,
        )  # fmt: skip
    learned, held_out = recording.split_off(pictures)
    facts = {
        "pictures": len(learned), "codes": state.n_codes, "held out": len(held_out),
        "micro-bits a code": round(1e6 * state.cost), "steps": n, "seed": seed,
    }  # fmt: skip
    packed = pack_contexts(*contexts.rounded(state), facts)
    made = unpack_contexts(packed)
    finish(output, packed, beside(output), beside(output, RECORDS))
    if not how.quiet:
        of = "of pictures held out" if held_out else "of those learned from"
        say(f"{output}: contexts {made.sha256[:16]}…, {state.cost:.4f} bits a code {of}, {human_bytes(len(packed))}")


def _told(cost: float) -> str:
    return f"{cost:.4f} bits a code when last measured" if math.isfinite(cost) else "not measured yet"


def _recorded(pictures: list[Image], mark: str, seed: int, output: str, how: How) -> list[Record]:
    """What contexts are learned from. It is kept beside the output as it is made, so that nothing is recorded twice."""
    from inrcodec.cli.progress import stage_reporter

    from inrcodec.fields.base import Progress
    from inrcodec.parallel import workers
    from inrcodec.priors import record_file
    from inrcodec.priors.recording import codings

    part, wanted = beside(output, RECORDS), codings(pictures, seed)
    with naming_output(str(part)):
        file = open(part, "r+b" if part.exists() and not how.force else "w+b")  # noqa: SIM115 (closed below)
    with file:
        with reading_again(part):
            records = record_file.read_records(file, mark)
        if not how.quiet and records:
            damaged = file.tell() < part.stat().st_size
            say(f"{part}: {len(records)} of {len(wanted)} records" + ", then damage: goes on from there" * damaged)
        file.truncate()
        if not file.tell():
            file.write(record_file.pack_head(mark))
        try:
            with (
                stage_reporter(output, how.progress, how.quiet) as on_step,
                workers(how.of(len(wanted), one_by_one=True)[1]),
            ):
                report = on_step or (lambda _: None)
                report(Progress("record", len(records), len(wanted)))
                for made in record_file.packed_records(wanted[len(records) :]):
                    with naming_output(str(part)):
                        file.write(made)
                        file.flush()
                    records.append(record_file.unpack_record(made))
                    report(Progress("record", len(records), len(wanted)))
        except KeyboardInterrupt:
            say_kept(part, how, f"{len(records)} of {len(wanted)} records")
            raise
    if how.verbose and not how.quiet:
        say(f"{output}: {sum(len(r.places) for r in records):,} codes recorded of {len(pictures)} pictures")
    return records


def _run_meta(shape: Any, tasks: Tasks, settings: MetaSettings, output: str, how: How) -> MetaState:
    from inrcodec.priors import meta
    from inrcodec.priors.checkpoint import fingerprint, pack_state, unpack_state

    mark, first = fingerprint(shape, tasks, settings), meta.first_state(shape, settings)
    state = kept_state(
        output, how, n_steps=settings.n_steps, first=first, unpack=lambda data: unpack_state(data, mark, first)
    )
    return run_training(
        output, how, n_steps=settings.n_steps, state=state,
        run=lambda on_step, state: meta.train(shape, tasks, settings, on_step=on_step, state=state),
        pack=lambda state: pack_state(state, mark),
        told=lambda state: f"{meta.psnr_db(state.loss):.2f} dB in the last batch",
    )  # fmt: skip
