"""`inrcodec decode`: .inr files in, pictures, sounds and arrays out."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from inrcodec.cli.failures import run_jobs
from inrcodec.cli.options import (
    How,
    claim_output,
    find_inputs,
    human_bytes,
    input_args,
    limit_option,
    naming_output,
    open_inr,
    output_options,
    prior_option,
    refuse_collisions,
    say,
    shown,
    wants_folder,
)

from inrcodec.settings import DecodeSettings

if TYPE_CHECKING:
    from inrcodec.reader import Reader
    from inrcodec.signals import SignalMeta


@dataclass(frozen=True)
class _Plan:
    """What is asked of every file alike."""

    settings: DecodeSettings
    output: str | None
    file_format: str | None
    depth: str | None
    partial: bool
    prior: str | None
    folder: bool
    how: How


@click.command("decode")
@input_args("files", "FILE...")
@click.option(
    "-o",
    "--output",
    metavar="OUT|DIR|FMT:-",
    help="Where to; the suffix chooses the format, `png:-` is PNG on stdout.  [FILE with .png, .wav or .npy]",
)
@click.option("--scale", type=float, metavar="F", help="Evaluate at F times the samples per axis.")
@click.option("--size", metavar="WxH", help="Evaluate at exactly this size.")
@click.option("--rate", type=int, metavar="HZ", help="Sounds: evaluate at this sample rate.")
@click.option("--crop", metavar="X,Y,W,H", help="Only this region of the (scaled) picture.")
@click.option("--start", type=float, metavar="S", help="Sounds: from this second on.")
@click.option("--duration", type=float, metavar="S", help="Sounds: so many seconds.")
@click.option("--depth", type=click.Choice(["8", "16"]), help="Pictures: bits per sample.  [as encoded]")
@click.option("--partial", is_flag=True, help="Decode a file that was cut off, as far as it goes.")
@prior_option
@limit_option
@output_options
def decode(
    *, files: tuple[str, ...], output: str | None, size: str | None, crop: str | None, rate: int | None,
    start: float | None, duration: float | None, scale: float | None, depth: str | None, partial: bool,
    prior: str | None, max_pixels: int, how: How,
) -> None:  # fmt: skip
    """Turn .inr files back into pictures, sounds and arrays, at any scale, or only a region.

    \b
      inrcodec decode photo.inr --scale 2
      inrcodec decode photo.inr --size 320x200 -o small.jpg
      inrcodec decode photo.inr --crop 100,50,320,200 -o crop.png
      inrcodec decode archive/*.inr -o pictures/ --jobs 4
      inrcodec decode talk.inr --start 10 --duration 5 -o flac:- > talk.flac

    Without -o the output stands beside FILE: photo.inr becomes photo.png. Where a photo.png is there already, a
    decode at another scale or of a part is called photo@2x.png, photo@320x200.png, talk@10+5s.wav and so on.
    """
    settings = DecodeSettings(
        scale=scale, size=_size(size) if size else None, rate_hz=rate, region=_region(crop) if crop else None,
        start_s=start, duration_s=duration, max_samples=max_pixels,
    )  # fmt: skip
    inputs = find_inputs(files, how.recursive, lambda p: p.suffix.lower() == ".inr")
    file_format, output = _split_format(output)
    folder = wants_folder(output, len(inputs))
    if folder or output is None:
        refuse_collisions((s, _stem(s, relative, output, folder)) for s, relative in inputs)
    plan = _Plan(settings, output, file_format, depth, partial, prior, folder, how)
    at_once = how.of(len(inputs), one_by_one=any(source == "-" for source, _ in inputs))
    run_jobs(functools.partial(_decode_one, plan), inputs, *at_once)


def _decode_one(plan: _Plan, item: tuple[str, Path]) -> None:
    from inrcodec.formats.files import format_for, write_signal

    source, relative = item
    with open_inr(source, partial=plan.partial, prior=plan.prior) as file:
        meta = file.header.signal
        if plan.depth and meta.kind != "image":
            raise ValueError("--depth belongs to pictures")
        target = _target(plan, source, relative, meta)
        format_for(target, meta, plan.file_format)  # a wrong format fails before the work
        if not claim_output(source, target, plan.how, kind=f"decoded {meta.kind} data", folder=plan.folder):
            return
        sample_type = f"u{int(plan.depth) // 8}" if plan.depth else None
        values, out = file.decode_settings(plan.settings, sample_type)
        metadata = file.metadata()
        with naming_output(target):
            n_bytes = write_signal(
                target, values, out, metadata, file_format=plan.file_format, overwrite=plan.how.force
            )
        if not plan.how.quiet:
            _report(file, source, target, _extent(out, n_bytes))
            if plan.how.verbose:
                h = file.header
                say(f"  {h.field.arch} {h.field.body}, cells {'x'.join(map(str, h.cells[::-1]))}, coder {h.coder}")


def _report(file: Reader, source: str, target: str, what: str) -> None:
    name = Path(source).name if source != "-" else shown(source)
    say(f"{name} → {shown(target, stream='output')} ({what})")
    if file.truncated:
        n = sum(section["type"] == "DATA" for section in file.info()["sections"])
        say(f"{shown(source)}: cut off; decoded from {n} of its {file.header.n_chunks} parts")


def _extent(meta: SignalMeta, n_bytes: int) -> str:
    """`1536×1024, 1.98 MB`"""
    if meta.kind == "sound":
        return f"{meta.duration_s:.2f} s, {meta.sample_rate_hz} Hz, {human_bytes(n_bytes)}"
    return f"{'×'.join(map(str, meta.shape[::-1]))}, {human_bytes(n_bytes)}"


def _stem(source: str, relative: Path, output: str | None, folder: bool) -> str:
    """Path of an output whose name follows from the source, without its suffix."""
    if source == "-":
        return str(Path(output or ".") / "stdin") if folder else "-"
    return str((Path(output or ".") / relative if folder else Path(source)).with_suffix(""))


def _target(plan: _Plan, source: str, relative: Path, meta: SignalMeta) -> str:
    from inrcodec.formats.files import default_suffix

    if plan.output is not None and not plan.folder:
        return plan.output
    stem = _stem(source, relative, plan.output, plan.folder)
    if stem == "-":
        return "-"
    target = stem + default_suffix(meta)
    # most likely the original, which a decode at another scale is not meant to replace
    tag = _tag(plan.settings)
    if tag and not plan.how.force and not plan.how.no_overwrite and Path(target).exists():
        return f"{stem}@{tag}{default_suffix(meta)}"
    return target


def _tag(settings: DecodeSettings) -> str:
    """Tells a decode that is not the whole signal as it was from one that is: `2x`, `320x200-crop10,10,80,60`."""
    tags = []
    if settings.scale is not None:
        tags.append(f"{settings.scale:g}x")
    if settings.size is not None:
        tags.append("x".join(map(str, settings.size[::-1])))
    if settings.rate_hz is not None:
        tags.append(f"{settings.rate_hz}hz")
    if settings.region is not None:
        tags.append("crop" + ",".join(str(n) for n in _as_typed(settings.region)))
    if settings.start_s is not None or settings.duration_s is not None:
        length = "" if settings.duration_s is None else f"+{settings.duration_s:g}"
        tags.append(f"{settings.start_s or 0:g}{length}s")
    return "-".join(tags)


def _split_format(output: str | None) -> tuple[str | None, str | None]:
    """`png:-` -> ('png', '-'); anything else is a path."""
    if output is not None and re.fullmatch(r"\w+:-", output):
        return output[:-2], "-"
    return None, output


def _size(text: str) -> tuple[int, ...]:
    return _numbers("--size", text, "x", 2)[::-1]


def _region(text: str) -> tuple[tuple[int, int], ...]:
    x, y, w, h = _numbers("--crop", text, ",", 4)
    if w < 1 or h < 1:
        raise click.UsageError(f"--crop {text}: width and height must be at least 1")
    return ((y, y + h), (x, x + w))


def _as_typed(region: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Inverse of _region: X, Y, W, H."""
    return (*(a for a, _ in region[::-1]), *(b - a for a, b in region[::-1]))


def _numbers(option: str, text: str, separator: str, count: int) -> tuple[int, ...]:
    parts = text.lower().split(separator)
    if len(parts) != count or not all(p.isascii() and p.isdigit() and len(p) < 10 for p in parts):
        raise click.UsageError(f"{option} {text}: wanted {count} whole numbers joined by '{separator}'")
    return tuple(int(p) for p in parts)
