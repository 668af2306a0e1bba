"""`inrcodec encode`: signals in, .inr files out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from inrcodec.settings import ARCHS, BODIES, CODERS, MAX_SAMPLES, TUNES, EncodeSettings
from inrcodec.cli.options import SIZE, Failures, find_inputs, guarded, human_bytes, input_args, overwrite_options, say

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".wav", ".flac", ".ogg", ".mp3", ".aiff", ".npy")


@click.command("encode")
@input_args("sources", "SRC...")
@click.option("-o", "--output", metavar="FILE|DIR|-", help="Where to; several sources need a folder.  [SRC with .inr]")
@click.option("--grid", default="auto", metavar="N|CxR|auto", show_default=True, help="Cells: N per axis, or columns by rows.")
@click.option("-q", "--quality", type=float, help="0 (small) to 100 (near exact).  [default: 75]")
@click.option("--psnr", type=float, metavar="DB", help="The smallest file of this PSNR (SNR for sounds).")
@click.option("--bpp", type=float, metavar="F", help="At most F bits per pixel (per frame of a sound).")
@click.option("--target-size", type=SIZE, help="At most so many bytes, such as 40k.")
@click.option("--bitrate", type=float, metavar="KBIT", help="Sounds: at most so many kbit/s.")
@click.option("--tune", type=click.Choice(TUNES), default="perceptual", show_default=True, help="Spend bytes for eyes, or for PSNR.")
@click.option("--arch", type=click.Choice(ARCHS), default="multihead", show_default=True, help="One shared body with a head per cell, or a network per cell.")
@click.option("--body", type=click.Choice(BODIES), help="The functions.  [default: cosine; siren for ensembles]")
@click.option("--width", type=int, help="MLP bodies: units per layer.  [from the quality]")
@click.option("--depth", type=int, help="MLP bodies: hidden layers after the first.")
@click.option("--bits", type=int, help="MLP bodies: bits per weight before entropy coding.")
@click.option("--iterations", type=int, help="MLP bodies: training steps.")
@click.option("--time-limit", type=float, metavar="S", help="MLP bodies: stop training after S seconds.")
@click.option("--seed", type=int, default=0, show_default=True, help="MLP bodies: of the random start.")
@click.option("--device", default="auto", show_default=True, help="MLP bodies: auto, cpu, cuda, cuda:N or mps.")
@click.option("--entropy", type=click.Choice(CODERS), default="auto", show_default=True, help="Coder of the weights; auto writes the smaller.")
@click.option("--metadata", default="all", show_default=True, metavar="KINDS", help="all, none, or a list of icc,exif,xmp,tags.")
@click.option("--strip", is_flag=True, help="Same as --metadata none.")
@click.option("--verify/--no-verify", default=True, help="Decode the result before it is written.  [default: verify]")
@click.option("--max-pixels", type=int, default=MAX_SAMPLES, show_default=True, help="Refuse larger inputs (values: pixels times channels).")
@click.option("-r", "--recursive", is_flag=True, help="Take folders, with the files in them.")
@overwrite_options
@click.option("--progress/--no-progress", default=None, help="Show progress.  [if stderr is a terminal]")
@click.option("--quiet", is_flag=True, help="Only say what goes wrong.")
@click.option("-v", "--verbose", is_flag=True, help="Say more about what was done.")
@guarded
def encode(
    *, sources: tuple[str, ...], output: str | None, metadata: str, strip: bool, max_pixels: int, recursive: bool,
    force: bool, no_overwrite: bool, progress: bool | None, quiet: bool, verbose: bool, quality: float | None,
    psnr: float | None, bpp: float | None, target_size: int | None, bitrate: float | None, time_limit: float | None,
    **options: Any,
) -> None:  # fmt: skip
    """Turn pictures, sounds and arrays into .inr files.

    \b
      inrcodec encode photo.png -o photo.inr --grid 16
      inrcodec encode *.jpg -o small/ --target-size 40k
      inrcodec encode talk.wav --bitrate 32
    """
    targets = {"--quality": quality, "--psnr": psnr, "--bpp": bpp, "--target-size": target_size, "--bitrate": bitrate}
    given = [name for name, value in targets.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{given[0]} and {given[1]} exclude each other")
    settings = EncodeSettings(
        quality=75.0 if quality is None else quality, psnr_db=psnr, bits_per_sample=bpp, target_bytes=target_size,
        kbit_per_s=bitrate, time_limit_s=time_limit, **options,
    )  # fmt: skip
    files = find_inputs(sources, recursive, lambda p: p.suffix.lower() in SUFFIXES)
    folder = _folder(output, len(files))
    failures = Failures(len(files))
    for source, relative in files:
        target = _target(source, relative, output, folder)

        def work(source: str = source, target: str = target) -> None:
            if _skip(target, force, no_overwrite, quiet):
                return
            _encode_one(source, target, settings, "none" if strip else metadata, max_pixels, force, progress, quiet, verbose)

        failures.run(work)
    failures.finish()


def _encode_one(
    source: str, target: str, settings: EncodeSettings, metadata: str, max_values: int, force: bool,
    progress: bool | None, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    from inrcodec import api
    from inrcodec.formats.files import read_signal, write_atomically
    from inrcodec.cli.progress import stage_reporter

    signal = api.keep_metadata(read_signal(source, max_samples=max_values), metadata)
    n_source = Path(source).stat().st_size if source != "-" else 0
    with stage_reporter(source, progress, quiet) as on_step:
        made = api.encode_signal(signal, settings, on_step)
    if target != "-":
        Path(target).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, made.data, overwrite=force)
    if not quiet:
        say(_summary(source, n_source, made))
        if verbose:
            h = made.header
            say(f"  {h.field.arch} {h.field.body}, cells {'x'.join(map(str, h.cells[::-1]))}, coder {h.coder}, "
                f"{len(h.levels) + 1} levels, {made.metadata_bytes} bytes of metadata")  # fmt: skip


def _summary(source: str, n_source: int, made: Any) -> str:
    """`photo.png 792 kB → 41.2 kB (0.84 bpp, 38.4 dB) in 4.1 s`"""
    meta, n = made.header.signal, len(made.data)
    if meta.kind == "sound":
        rate = f"{8 * n / meta.duration_s / 1000:.1f} kbit/s, SNR {made.quality_db:.1f} dB"
    else:
        quality = "exact" if made.quality_db >= 1000 else f"{made.quality_db:.1f} dB"
        rate = f"{8 * n / meta.n_samples:.2f} {'bpp' if meta.kind == 'image' else 'bits/position'}, {quality}"
    before = f" {human_bytes(n_source)}" if n_source else ""
    name = "standard input" if source == "-" else Path(source).name
    return f"{name}{before} → {human_bytes(n)} ({rate}) in {made.seconds:.1f} s"


def _folder(output: str | None, n_files: int) -> bool:
    """Whether the output is a folder. Raises ValueError where several files would go to one."""
    if output is None or output == "-":
        if output == "-" and n_files > 1:
            raise ValueError("several sources cannot all go to standard output")
        return False
    folder = output.endswith("/") or Path(output).is_dir()
    if n_files > 1 and not folder:
        raise ValueError(f"{output}: several sources need a folder; write {output}/")
    return folder


def _target(source: str, relative: Path, output: str | None, folder: bool) -> str:
    if folder:
        return str(Path(output or ".") / relative.with_suffix(".inr"))
    if output is not None:
        return output
    return "-" if source == "-" else str(Path(source).with_suffix(".inr"))


def _skip(target: str, force: bool, no_overwrite: bool, quiet: bool) -> bool:
    """Whether to leave this file out; raises FileExistsError before any work is done for nothing."""
    if target == "-":
        if sys.stdout.isatty():
            raise ValueError("an .inr file is not for a terminal; -o FILE writes it")
        return False
    if not force and Path(target).is_file():
        if no_overwrite:
            if not quiet:
                say(f"{target} exists, left alone")
            return True
        raise FileExistsError(17, "exists", target)
    return False
