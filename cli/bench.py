"""`inrcodec bench`: pictures in, a table of rate, quality and time beside other codecs out."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from inrcodec.cli.options import version_option

if TYPE_CHECKING:
    from inrcodec.bench import Comparison, MeanRow, Point
    from inrcodec.peers import Codec

WIDTHS = (8, 9, 9, 9, 8, 8, 8, 8)  # of the table's columns of figures
UNITS = {"psnr": "dB", "ssimulacra2": "SSIMULACRA2"}


@click.command("bench")
@click.argument("paths", nargs=-1, required=True, metavar="FOLDER|FILE...", type=click.Path(path_type=Path))
@click.option(
    "--peers", metavar="NAMES", help="Codecs to measure beside: jpeg,webp,avif,jxl, or none.  [all installed]"
)
@click.option(
    "--tune",
    type=click.Choice(["psnr", "perceptual", "both"]),
    default="both",
    show_default=True,
    help="What inrcodec is tuned for.",
)
@click.option("--qualities", metavar="Q,Q,...", help="Our qualities to measure, at least 4 for a BD-rate.")
@click.option("--ssimulacra2", "eyes", is_flag=True, help="Measure SSIMULACRA2 and SSIM too (about .5 s a point).")
@click.option("--quick", is_flag=True, help="Every other quality only.")
@click.option("--per-file", is_flag=True, help="One table per file instead of means over files.")
@click.option("--json", "as_json", is_flag=True, help="Everything measured, as JSON on stdout.")
@click.option("--progress/--no-progress", default=None, help="Count on stderr.  [if it is a terminal]")
@version_option
def bench(
    *,
    paths: tuple[Path, ...],
    peers: str | None,
    tune: str,
    qualities: str | None,
    eyes: bool,
    quick: bool,
    per_file: bool,
    as_json: bool,
    progress: bool | None,
) -> None:
    """Measure pictures beside other codecs.

    Encodes every picture (as 8-bit RGB) at a ladder of qualities with each codec, decodes the bytes again, and
    reports bits per pixel, PSNR and times, and the BD-rate: how many percent more bytes (less, if negative) we
    need for the same quality.

    \b
      inrcodec bench photos/
      inrcodec bench photo.png --tune psnr --peers jpeg,webp --json
    """
    from inrcodec.bench import compare, find_pictures, measure_ladder

    codecs = _codecs(peers, tune, _numbers(qualities), quick)
    if eyes:
        _require_ssimulacra2()
    files = find_pictures(paths)
    shown = sys.stderr.isatty() if progress is None else progress

    def on_point(point: Point, left: int) -> None:
        click.echo(f"\r{left:5d} to go: {point.file} {point.codec} {point.setting:g}\033[K", err=True, nl=False)

    points = measure_ladder(codecs, files, with_ssimulacra2=eyes, on_point=on_point if shown else None)
    if shown:
        click.echo("\r\033[K", err=True, nl=False)
    names = [codec.name for codec in codecs]
    test = [name for name in names if name.startswith("inr-")]
    comparisons = [
        compare(points, test=name, anchor=anchor, figure=figure)
        for figure in (["psnr", "ssimulacra2"] if eyes else ["psnr"])
        for name in test
        for anchor in names
        if anchor not in test
    ]
    if as_json:
        click.echo(json.dumps(_document(codecs, points, comparisons), indent=1, allow_nan=False))
        return
    names_of_files = list(dict.fromkeys(p.file for p in points))
    if per_file or len(files) == 1:
        for file in names_of_files:
            _table(file, codecs, [p for p in points if p.file == file])
    else:
        _table(f"mean of {len(files)} pictures", codecs, points)
    _rates(comparisons, per_file)


def _codecs(peers: str | None, tune: str, qualities: tuple[float, ...], quick: bool) -> list[Codec]:
    from inrcodec.peers import available_peers, ours, peer

    names = available_peers() if peers is None else [n for n in peers.split(",") if n not in ("", "none")]
    codecs = [ours(t) for t in (("psnr", "perceptual") if tune == "both" else (tune,))]
    if qualities:
        codecs = [codec.with_ladder(qualities) for codec in codecs]
    elif quick:
        codecs = [codec.thinned() for codec in codecs]
    for name in dict.fromkeys(names):
        try:
            found = peer(name)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        except ImportError as error:
            raise click.UsageError(
                f"--peers {name}: {error}; pip install 'inrcodec[bench]' has the optional ones"
            ) from None
        codecs.append(found.thinned() if quick else found)
    return codecs


def _numbers(text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        values = tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise click.UsageError(f"--qualities {text}: wanted numbers from 0 to 100 with commas between") from None
    if not all(0 <= value <= 100 for value in values):
        raise click.UsageError(f"--qualities {text}: wanted numbers from 0 to 100")
    return values


def _require_ssimulacra2() -> None:
    try:
        import ssimulacra2  # noqa: F401
    except ImportError:
        raise click.UsageError("--ssimulacra2 needs a package: pip install 'inrcodec[bench]'") from None


def _table(title: str, codecs: Sequence[Codec], points: list[Point]) -> None:
    from inrcodec.bench import mean_rows

    click.echo(title)
    head = zip(("quality", "bpp", "PSNR dB", "of mean", "SSIMU2", "SSIM", "enc s", "dec s"), WIDTHS, strict=True)
    click.echo(f"{'codec':28}" + "".join(f"{name:>{width}}" for name, width in head))
    for codec in codecs:
        for row in mean_rows(points, codec.name):
            click.echo(_line(codec, row))
    click.echo("PSNR dB: mean over pictures; of mean: PSNR of the mean squared error of all pictures\n")


def _line(codec: Codec, row: MeanRow) -> str:
    values = (
        f"{row.setting:g}", f"{row.bpp:.4f}", f"{row.psnr_db:.2f}", f"{row.psnr_of_mean_mse_db:.2f}",
        "–" if row.ssimulacra2 is None else f"{row.ssimulacra2:.1f}", "–" if row.ssim is None else f"{row.ssim:.4f}",
        f"{row.encode_s:.3f}", f"{row.decode_s:.3f}",
    )  # fmt: skip
    return f"{codec.label:28}" + "".join(f"{value:>{width}}" for value, width in zip(values, WIDTHS, strict=True))


def _rates(comparisons: Sequence[Comparison], per_file: bool) -> None:
    if not comparisons:
        return
    click.echo("BD-rate: bytes we need for the same quality, against each peer (negative: fewer)")
    for c in comparisons:
        if c.mean is None:
            click.echo(f"{c.test:16}against {c.anchor:6}: none ({next(iter(c.skipped.values()))})")
            continue
        of_mean = "–" if c.of_mean is None else f"{c.of_mean:+.1f} %"
        skipped = f"; {len(c.skipped)} without" if c.skipped else ""
        click.echo(
            f"{c.test:16}against {c.anchor:6}: mean of {len(c.by_file)} files {c.mean:+.1f} %, "
            f"averaged curve {of_mean} ({c.low:.1f} to {c.high:.1f} {UNITS[c.figure]}{skipped})"
        )
        if per_file:
            for file, (rate, low, high) in c.by_file.items():
                click.echo(f"    {file:32}{rate:+7.1f} %  ({low:.1f} to {high:.1f})")
            for file, why in c.skipped.items():
                click.echo(f"    {file:32}      –    ({why})")


def _document(codecs: Sequence[Codec], points: list[Point], comparisons: list[Comparison]) -> dict[str, object]:
    """Keys are promises: added to, never renamed."""
    return {
        "codecs": [{"name": c.name, "label": c.label, "version": c.version, "settings": c.ladder} for c in codecs],
        "points": [p.as_json() for p in points],
        "bd_rates": [
            {
                "test": c.test,
                "anchor": c.anchor,
                "figure": c.figure,
                "mean_percent": c.mean,
                "of_mean_curve_percent": c.of_mean,
                "files": {f: {"percent": r, "low": low, "high": high} for f, (r, low, high) in c.by_file.items()},
                "skipped": c.skipped,
            }
            for c in comparisons
        ],
    }
