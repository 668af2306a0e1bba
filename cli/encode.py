"""`inrcodec encode`: signals in, .inr files out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from inrcodec.cli.failures import run_jobs
from inrcodec.cli.options import (
    SIZE,
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
    refuse_collisions,
    say,
    wants_folder,
)

from inrcodec import api
from inrcodec.errors import SignalError
from inrcodec.settings import ARCHS, BODIES, CODERS, PARTITIONS, SYNTHESIS, TUNES, EncodeSettings

if TYPE_CHECKING:
    import numpy as np

    from inrcodec.api import Encoded

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".npy"),
)


@dataclass(frozen=True)
class _Plan:
    """What is asked of every file alike."""

    settings: EncodeSettings
    search: str | None  # the file of a result; auto: search now
    metadata: str
    max_values: int
    folder: bool
    how: How


class _Encode(click.Command):
    """Says so where --search, whose FILE may be left out, took the one name there was."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter:
            taken = ctx.params.get("search")
            if taken in (None, "auto"):
                raise
            raise click.UsageError(
                f"--search took {taken} as the result of a search, and no SRC is left; SRC goes before --search", ctx
            ) from None


@click.command("encode", cls=_Encode)
@input_args("sources", "SRC...")
@click.option("-o", "--output", metavar="FILE|DIR|-", help="Where to; several sources need a folder.  [SRC with .inr]")
@click.option(
    "--grid", default="auto", metavar="N|CxR|auto", show_default=True, help="Cells: N per axis, or columns by rows."
)
@click.option("-q", "--quality", type=float, help="0 (small) to 100 (near exact).  [default: 75]")
@click.option("--psnr", type=float, metavar="DB", help="The smallest file of this PSNR (SNR for sounds).")
@click.option("--bpp", type=float, metavar="F", help="At most F bits per pixel (per frame of a sound).")
@click.option("--target-size", type=SIZE, help="At most so many bytes, such as 40k.")
@click.option("--bitrate", type=float, metavar="KBIT", help="Sounds: at most so many kbit/s.")
@click.option(
    "--tune", type=click.Choice(TUNES), default="perceptual", show_default=True, help="Spend bytes for eyes, or PSNR."
)
@click.option(
    "--arch",
    type=click.Choice(ARCHS),
    help="One shared body with a head per cell, or a network per cell.  [default: multihead]",
)
@click.option("--body", type=click.Choice(BODIES), help="The functions.  [default: cosine; siren for ensembles]")
@click.option(
    "--partition",
    type=click.Choice(PARTITIONS),
    help="A network per cell, or per segment of the picture, as many as --grid has cells; implies --arch ensemble."
    "  [grid]",
)
@click.option(
    "--segments", metavar="FILE", help="Picture of the segments, every colour one; implies --partition segments."
)
@click.option("--connections", type=int, help="multihead relu: features each head is connected to.  [all]")
@click.option("--width", type=int, help="MLP bodies: units per layer.  [from the quality]")
@click.option("--depth", type=int, help="MLP bodies: hidden layers after the first.")
@click.option(
    "--prior",
    metavar="FILE|none",
    help="What inrcodec prior train made of other signals: networks that an ensemble starts from, or contexts of"
    " pictures; decoding needs it again."
    "  [none]",
)
@click.option(
    "--search",
    is_flag=False,
    flag_value="auto",
    metavar="[FILE]",
    help="Ensembles: width, depth and grid that inrcodec search found; without FILE they are searched for now.",
)
@click.option("--bits", type=int, help="MLP bodies: bits per weight before entropy coding.")
@click.option("--iterations", type=int, help="MLP bodies: training steps.")
@click.option(
    "-e",
    "--effort",
    type=click.IntRange(1, 9),
    default=EncodeSettings.effort,
    show_default=True,
    help="What is tried on a file, to be smaller at equal quality: 1 quick, without the synthesis network; 2 quick;"
    " 3 to 6 (the same) all tools, on cells of a likely size; 7 and 8 the best of 5 and of 10 sizes (sounds, arrays:"
    " fewer); 9 everything: cells that are not square too. At the same -q more effort may be better and larger.",
)
@click.option(
    "--time-limit",
    type=float,
    metavar="S",
    help="Write the best file that there is time for: the quickest one of a picture (-e 1) is made first and takes what"
    " it takes, and nothing more is begun that may end after S seconds.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="MLP bodies: of the random start.")
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="MLP bodies: auto, cpu, cuda, cuda:N or mps.",
)
@click.option(
    "--entropy",
    type=click.Choice(CODERS),
    default="auto",
    show_default=True,
    help="Coder of the weights; auto writes the smaller.",
)
@click.option(
    "--synthesis",
    type=click.Choice(SYNTHESIS),
    default="auto",
    show_default=True,
    help="Networks for pictures: one corrects them, where that pays (from --effort 2 on), one adds detail when they are"
    " enlarged. off: neither.",
)
@click.option(
    "--metadata",
    default="all",
    show_default=True,
    metavar="KINDS",
    help="What to keep: all, none, or a list of icc,exif,xmp,tags.",
)
@click.option("--strip", is_flag=True, help="Same as --metadata none.")
@click.option("--verify/--no-verify", default=True, help="Decode the result before it is written.  [default: verify]")
@limit_option
@output_options
def encode(
    *, sources: tuple[str, ...], output: str | None, metadata: str, strip: bool, max_pixels: int, how: How,
    quality: float | None, psnr: float | None, bpp: float | None, target_size: int | None, bitrate: float | None,
    time_limit: float | None, arch: str | None, partition: str | None, segments: str | None, search: str | None,
    prior: str | None,
    **options: Any,
) -> None:  # fmt: skip
    """Turn pictures, sounds and arrays into .inr files.

    \b
      inrcodec encode photo.png -o photo.inr --grid 16
      inrcodec encode *.jpg -o small/ --target-size 40k --jobs 4
      inrcodec encode -r holiday/ -o archive/ --quality 85 --strip
      inrcodec encode talk.wav --bitrate 32
      inrcodec encode photo.png --body siren --iterations 2000 --device cuda
      inrcodec encode photo.png --partition segments --grid 3
      inrcodec encode photo.png --search photo.search.json
      inrcodec encode photo.png --prior photos.inp
      convert in.psd png:- | inrcodec encode - -o - > out.inr
    """
    if prior == "none":
        prior = None
    targets = {"--quality": quality, "--psnr": psnr, "--bpp": bpp, "--target-size": target_size, "--bitrate": bitrate}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} exclude each other")
    if strip and metadata not in ("all", "none"):
        raise click.UsageError(f"--strip and --metadata {metadata} exclude each other")
    partition = partition or ("segments" if segments is not None else None)
    label_map = _read_map(segments, max_pixels) if segments is not None else None
    if search is not None:
        _check_search(arch, partition, options)
        if prior is not None:
            raise click.UsageError("--search and --prior exclude each other: a prior's networks are what they are")
        arch = "ensemble"
    if arch is not None:
        options["arch"] = arch
    if quality is not None:
        options["quality"] = quality
    settings = api.settings_of(
        partition=partition, segments=label_map, prior=prior, psnr_db=psnr, bits_per_sample=bpp,
        target_bytes=target_size, kbit_per_s=bitrate, time_limit_s=time_limit, **options,
    )  # fmt: skip
    metadata = "none" if strip else metadata
    _check_metadata(metadata)
    files = find_inputs(sources, how.recursive, lambda p: p.suffix.lower() in SUFFIXES)
    folder = wants_folder(output, len(files))
    jobs = [(source, _target(source, relative, output, folder)) for source, relative in files]
    refuse_collisions(jobs)
    at_once = how.of(len(jobs), one_by_one=any(source == "-" for source, _ in jobs))
    if at_once[0] > 1:
        how = replace(how, progress=False)  # bars of several processes would overwrite each other
    run_jobs(partial(_encode_one, _Plan(settings, search, metadata, max_pixels, folder, how)), jobs, *at_once)


def _encode_one(plan: _Plan, job: tuple[str, str]) -> None:
    source, target = job
    how = plan.how
    check_input(source)
    _refuse_inr(source)
    if not claim_output(source, target, how, kind="an .inr file", folder=plan.folder):
        return
    from inrcodec.cli.progress import stage_reporter, telling_stages
    from inrcodec.formats.files import read_signal, write_atomically

    signal = read_signal(source, max_samples=plan.max_values)
    n_source = Path(source).stat().st_size if source != "-" else 0
    with naming_input(source), stage_reporter(source, how.progress, how.quiet, signal.meta) as shown:
        settings = plan.settings
        on_step = telling_stages(source, shown) if how.verbose and not how.quiet else shown
        if plan.search is not None:
            from inrcodec.cli.search import settings_from

            settings = settings_from(plan.search, signal, settings, on_step)
        made = api.encode_signal(api.keep_metadata(signal, plan.metadata), settings, on_step)
    with naming_output(target):
        write_atomically(target, made.data, overwrite=how.force)
    if not how.quiet:
        say(_summary(source, n_source, made, settings.effort))
        if made.target_bytes is not None and len(made.data) < 0.97 * made.target_bytes:
            say(f"  {made.target_bytes:,} bytes were asked for: no step of this field comes nearer")
        if how.verbose:
            h = made.header
            cells = f"{h.field.segments} segments" if h.field.segments else f"cells {'x'.join(map(str, h.cells[::-1]))}"
            levels = f"{len(h.levels) + 1} level{'s' * bool(h.levels)}"
            say(f"  {h.field.arch} {h.field.body}, {cells}, coder {h.coder}, "
                f"{levels}, {made.metadata_bytes} bytes of metadata")  # fmt: skip


def _check_search(arch: str | None, partition: str | None, options: dict[str, Any]) -> None:
    for name in ("width", "depth"):
        if options[name] is not None:
            raise click.UsageError(f"--search and --{name} exclude each other")
    if arch not in (None, "ensemble"):
        raise click.UsageError(f"--search is for ensembles, --arch {arch} was asked for")
    if partition == "segments":
        raise click.UsageError("--search is for the cells of a grid, --partition segments was asked for")


def _summary(source: str, n_source: int, made: Encoded, effort: int) -> str:
    """`photo.png 792 kB → 41.2 kB (0.84 bpp, 38.4 dB) in 4.1 s`; effort: asked for."""
    from inrcodec.cli.progress import shown_rate

    meta, n = made.header.signal, len(made.data)
    quality = "exact" if made.quality_db >= 1000 else f"{made.quality_db:.1f} dB"
    rate = f"{shown_rate(meta, n)}, {'SNR ' if meta.kind == 'sound' else ''}{quality}"
    before = f" {human_bytes(n_source)}" if n_source else ""
    name = "standard input" if source == "-" else Path(source).name
    less = ""
    if made.effort != effort:
        less = f", no time for more than -e {made.effort}"
    elif not made.whole:
        less = f", no time for all {f'of -e {effort}' if made.header.field.body == 'cosine' else 'iterations'}"
    return f"{name}{before} → {human_bytes(n)} ({rate}) in {made.seconds:.1f} s{less}"


def _target(source: str, relative: Path, output: str | None, folder: bool) -> str:
    if folder:
        name = Path("stdin") if source == "-" else relative
        return str(Path(output or ".") / name.with_suffix(".inr"))
    if output is not None:
        return output
    return "-" if source == "-" else str(Path(source).with_suffix(".inr"))


def _refuse_inr(source: str) -> None:
    """Said before anything about outputs: a.inr would become a.inr."""
    from inrcodec.formats.container import MAGIC

    if source != "-" and Path(source).is_file():
        with open(source, "rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                raise SignalError(f"{source}: an .inr file already; inrcodec decode turns it back")


def _read_map(path: str, max_values: int) -> np.ndarray:
    """--segments: a picture, or an array of numbers -> its labels."""
    from inrcodec.formats.files import read_signal

    from inrcodec.segments import from_map

    check_input(path)
    try:
        return from_map(read_signal(path, max_samples=max_values).samples)
    except ValueError as error:
        raise click.UsageError(f"{path}: {error}") from None


def _check_metadata(kinds: str) -> None:
    if kinds not in ("all", "none") and not set(kinds.split(",")) <= {"icc", "exif", "xmp", "tags"}:
        raise click.UsageError(f"--metadata {kinds}: wanted all, none, or a list of icc, exif, xmp, tags")
