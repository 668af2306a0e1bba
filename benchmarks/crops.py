"""Pieces of pictures at equal bytes, ours beside other codecs, to be looked at: writes docs/crops.md and its pictures.

    python benchmarks/crops.py [PICTURE:X,Y …] [--bpp 0.2,0.5] [-o FOLDER]

X,Y is the corner of the piece that is shown; samples/ is what docs/crops.md is made of. Every codec codes the whole
picture, at the quality whose file is nearest to the bytes asked for; figures are of the whole picture too. The last row
is at twice the size: ours decoded there, the others' decodes enlarged by Lanczos.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import ROOT, table
from PIL import Image, ImageDraw, ImageFont

import inrcodec
from inrcodec.bench import load_picture, ssimulacra2
from inrcodec.metrics import psnr, ssim
from inrcodec.peers import Codec, ours, peer

SAMPLES = ("coffee.png:296,196", "cat-sideways.jpg:96,58")
PIECE = 128  # samples per side
SHOWN = 256  # pixels per side
MARGIN, CAPTION = 8, 40
PAPER, INK = (255, 255, 255), (30, 30, 30)


@dataclass(frozen=True)
class Shown:
    """One codec's file nearest to a size, decoded once and at twice the samples."""

    label: str
    n_bytes: int
    once: np.ndarray
    twice: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", default=[str(ROOT / "samples" / s) for s in SAMPLES])
    parser.add_argument("--bpp", default="0.25,0.5", help="sizes in bits per pixel")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs")
    args = parser.parse_args()
    rates = [float(r) for r in args.bpp.split(",")]
    codecs = [ours("perceptual"), *(peer(name) for name in ("jpeg", "webp", "avif", "jxl"))]
    lines = [HEAD.format(codecs=",\n".join(f"{c.label} ({c.version})" for c in codecs))]
    for asked in args.pictures:
        path, _, corner = asked.partition(":")
        picture = load_picture(Path(path))
        x, y = (int(v) for v in corner.split(",")) if corner else (n // 2 - PIECE // 2 for n in picture.shape[1::-1])
        rows, figures = [], []
        for rate in rates:
            found = [_nearest(codec, picture, rate * picture.size / 3 / 8) for codec in codecs]
            original = Shown("original", picture.nbytes, picture, _enlarged(picture))
            pieces = [(_caption(s, picture), s.once[y : y + PIECE, x : x + PIECE]) for s in (original, *found)]
            rows.append(pieces)
            figures += [(f"{rate:g} bpp, {s.label}", *_figures(s, picture)) for s in found]
            if rate == rates[-1]:
                a, b = (slice(2 * v + PIECE // 2, 2 * v + 3 * PIECE // 2) for v in (y, x))
                rows.append([(f"{s.label}, twice the size", s.twice[a, b]) for s in (original, *found)])
        name = f"crops-{Path(path).stem}.png"
        _sheet(rows).save(args.output / name, optimize=True)
        lines.append(
            f"## {Path(path).name}, {picture.shape[1]}×{picture.shape[0]}\n\n![pieces at equal bytes]({name})\n"
        )
        lines.append(table(("", "bytes", "PSNR dB", "SSIM", "SSIMULACRA2"), figures) + "\n")
    (args.output / "crops.md").write_text("\n".join(lines), encoding="utf-8")


HEAD = """# Pieces at equal bytes

Made by `python benchmarks/crops.py`:
{codecs}.

Whole pictures are coded, each by the quality whose file is nearest to the size (ours by `--target-size`); figures are
of the whole picture. What is shown are pieces of 128×128 samples, every sample 2×2 pixels. Last row: the middle of the
piece at twice the size, ours decoded there, the others (and the original) enlarged by Lanczos. What is seen there, and
in Kodak's photos, is in docs/compression.md, "What the eye still finds".
"""


def _nearest(codec: Codec, picture: np.ndarray, n_bytes: float) -> Shown:
    """At the whole-numbered quality whose file is nearest to the size; ours is continuous and meets it."""
    if codec.name.startswith("inr"):
        data = inrcodec.encode(picture, target_bytes=round(n_bytes))
        return Shown("ours", len(data), inrcodec.open(data).decode(), inrcodec.open(data).decode(scale=2))
    low, high = 1, 99
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if len(codec.encode(picture, middle)) <= n_bytes else (low, middle)
    data = min((codec.encode(picture, q) for q in (low, high)), key=lambda d: abs(len(d) - n_bytes))
    once = codec.decode(data)
    return Shown(codec.label.split()[0] if codec.name != "jxl" else "JPEG XL", len(data), once, _enlarged(once))


def _enlarged(picture: np.ndarray) -> np.ndarray:
    size = 2 * picture.shape[1], 2 * picture.shape[0]
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _figures(shown: Shown, picture: np.ndarray) -> tuple[str, ...]:
    return (
        f"{shown.n_bytes:,}",
        f"{psnr(decoded=shown.once, original=picture, peak=255):.2f}",
        f"{ssim(decoded=shown.once, original=picture, peak=255):.4f}",
        f"{ssimulacra2(decoded=shown.once, original=picture):.1f}",
    )


def _caption(shown: Shown, picture: np.ndarray) -> str:
    if shown.once is picture:
        return shown.label
    n_bytes, db, _, eyes = _figures(shown, picture)
    return f"{shown.label}, {n_bytes} bytes\n{db} dB, SSIMULACRA2 {eyes}"


def _sheet(rows: list[list[tuple[str, np.ndarray]]]) -> Image.Image:
    width = len(rows[0]) * (SHOWN + MARGIN) + MARGIN
    sheet = Image.new("RGB", (width, len(rows) * (SHOWN + CAPTION + MARGIN) + MARGIN), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for j, row in enumerate(rows):
        for i, (caption, piece) in enumerate(row):
            x, y = MARGIN + i * (SHOWN + MARGIN), MARGIN + j * (SHOWN + CAPTION + MARGIN)
            draw.text((x, y), caption, INK, font=font)
            shown = Image.fromarray(np.ascontiguousarray(piece)).resize((SHOWN, SHOWN), Image.Resampling.NEAREST)
            sheet.paste(shown, (x, y + CAPTION))
    return sheet


if __name__ == "__main__":
    main()
