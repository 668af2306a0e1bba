"""`inrcodec decode`: .inr files in, pictures, sounds and arrays out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inrcodec.cli.options import Failures, find_inputs, guarded, human_bytes, input_args, overwrite_options, say
from inrcodec.settings import MAX_SAMPLES, DecodeSettings

if TYPE_CHECKING:
    from inrcodec.api import Reader


@click.command("decode")
@input_args("files", "FILE...")
@click.option("-o", "--output", metavar="OUT|DIR|FMT:-", help="Where to; the suffix chooses the format, `png:-` is PNG on stdout.  [FILE with .png, .wav or .npy]")
@click.option("--scale", type=float, metavar="F", help="Evaluate at F times the samples per axis.")
@click.option("--size", metavar="WxH", help="Evaluate at exactly this size.")
@click.option("--rate", type=int, metavar="HZ", help="Sounds: evaluate at this sample rate.")
@click.option("--crop", metavar="X,Y,W,H", help="Only this region of the (scaled) picture.")
@click.option("--start", type=float, metavar="S", help="Sounds: from this second on.")
@click.option("--duration", type=float, metavar="S", help="Sounds: so many seconds.")
@click.option("--depth", type=click.Choice(["8", "16"]), help="Pictures: bits per sample.  [as encoded]")
@click.option("--partial", is_flag=True, help="Decode a file that was cut off, as far as it goes.")
@click.option("--max-pixels", type=int, default=MAX_SAMPLES, show_default=True, help="Refuse larger outputs (values: pixels times channels).")
@click.option("-r", "--recursive", is_flag=True, help="Take folders, with the .inr files in them.")
@overwrite_options
@click.option("--progress/--no-progress", default=None, hidden=True)
@click.option("--quiet", is_flag=True, help="Only say what goes wrong.")
@click.option("-v", "--verbose", is_flag=True, help="Say more about what was done.")
@guarded
def decode(
    *, files: tuple[str, ...], output: str | None, size: str | None, crop: str | None, rate: int | None,
    start: float | None, duration: float | None, scale: float | None, depth: str | None, partial: bool,
    max_pixels: int, recursive: bool, force: bool, no_overwrite: bool, progress: bool | None, quiet: bool,
    verbose: bool,
) -> None:  # fmt: skip
    """Turn .inr files back into pictures, sounds and arrays, at any scale, or only a region.

    \b
      inrcodec decode photo.inr --scale 2
      inrcodec decode photo.inr --crop 100,50,320,200 -o crop.png
      inrcodec decode talk.inr --start 10 --duration 5 -o - > talk.wav
    """
    settings = DecodeSettings(
        scale=scale, size=_numbers("--size", size, "x", 2)[::-1] if size else None, rate_hz=rate,
        region=_region(crop) if crop else None, start_s=start, duration_s=duration, max_samples=max_pixels,
    )  # fmt: skip
    inputs = find_inputs(files, recursive, lambda p: p.suffix.lower() == ".inr")
    file_format, output = _split_format(output)
    folder = output is not None and output != "-" and (output.endswith("/") or Path(output).is_dir())
    if len(inputs) > 1 and output is not None and not folder:
        raise ValueError(f"{output}: several files need a folder; write {output}/")
    failures = Failures(len(inputs))
    for source, relative in inputs:
        place = str(Path(output or ".") / relative) if folder else None

        def work(source: str = source, place: str | None = place) -> None:
            _decode_one(source, place, None if folder else output, file_format, settings, depth, partial, force, no_overwrite, quiet, verbose)

        failures.run(work)
    failures.finish()


def _decode_one(
    source: str, place: str | None, output: str | None, file_format: str | None, settings: DecodeSettings,
    depth: str | None, partial: bool, force: bool, no_overwrite: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    from inrcodec import api
    from inrcodec.formats.files import default_suffix, format_for, write_signal

    try:
        file = api.open(_from_stdin() if source == "-" else source, partial=partial)
    except api.InrError as error:
        raise type(error)(f"{_shown(source)}: {error}") from None
    with file:
        meta = file.header.signal
        target = output
        if target is None:
            base = Path(place) if place else Path(source)
            suffix = f".{file_format}" if file_format else default_suffix(meta)
            target = "-" if source == "-" else str(base.with_suffix(suffix))
        if depth and meta.kind != "image":
            raise ValueError("--depth belongs to pictures")
        format_for(target, meta, file_format)  # wrong formats fail before the work
        if target == "-" and sys.stdout.isatty():
            raise ValueError(f"a {meta.kind} is not for a terminal; -o FILE writes it")
        if not force and target != "-" and Path(target).is_file():
            if no_overwrite:
                if not quiet:
                    say(f"{target} exists, left alone")
                return
            raise FileExistsError(17, "exists", target)
        write_back = _evaluate(file, settings, depth, source)
        if target != "-":
            Path(target).parent.mkdir(parents=True, exist_ok=True)
        n_bytes = write_signal(target, *write_back, file.metadata(), file_format=file_format, overwrite=force)
        if not quiet:
            _report(source, file, target, write_back[1], n_bytes, verbose)


def _evaluate(file: Reader, settings: DecodeSettings, depth: str | None, source: str) -> Any:
    from inrcodec import api

    try:
        if depth:
            return file.decode_settings(settings, sample_type="u1" if depth == "8" else "u2")
        return file.decode_settings(settings)
    except api.InrError as error:
        raise type(error)(f"{_shown(source)}: {error}") from None


def _report(source: str, file: Reader, target: str, meta: Any, n_bytes: int, verbose: bool) -> None:
    extent = "×".join(map(str, meta.shape[::-1])) if meta.kind != "sound" else f"{meta.duration_s:.2f} s, {meta.sample_rate_hz} Hz"
    shown = "standard output" if target == "-" else target
    say(f"{Path(source).name if source != '-' else 'standard input'} → {shown} ({extent}, {human_bytes(n_bytes)})")
    if file.truncated:
        say(f"{_shown(source)}: cut off; decoded as far as it goes")
    if verbose:
        h = file.header
        say(f"  {h.field.arch} {h.field.body}, cells {'x'.join(map(str, h.cells[::-1]))}, coder {h.coder}")


def _shown(source: str) -> str:
    return "standard input" if source == "-" else source


def _from_stdin() -> bytes:
    return sys.stdin.buffer.read()


def _split_format(output: str | None) -> tuple[str | None, str | None]:
    """`png:-` -> ('png', '-'); anything else is a path."""
    if output is not None and output.endswith(":-"):
        return output[:-2], "-"
    return None, output


def _region(text: str) -> tuple[tuple[int, int], ...]:
    x, y, w, h = _numbers("--crop", text, ",", 4)
    if w < 1 or h < 1:
        raise ValueError(f"--crop {text}: width and height must be at least 1")
    return ((y, y + h), (x, x + w))


def _numbers(option: str, text: str, separator: str, count: int) -> tuple[int, ...]:
    parts = text.lower().split(separator)
    if len(parts) != count or not all(p.isascii() and p.isdigit() and len(p) < 10 for p in parts):
        raise ValueError(f"{option} {text}: wanted {count} whole numbers joined by '{separator}'")
    return tuple(int(p) for p in parts)


