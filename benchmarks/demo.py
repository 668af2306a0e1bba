"""The whole road on one picture: encode, info, decode at two sizes; a picture side by side, and an honest table.

    python benchmarks/demo.py [PICTURE] [-o demo-out]

Every figure is measured on files that lie in the output folder afterwards.
"""

from __future__ import annotations

import argparse
import io
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import ROOT, inrcodec_program
from PIL import Image, ImageDraw, ImageFont

from inrcodec.bench import load_picture
from inrcodec.metrics import psnr, ssim

MARGIN, CAPTION = 12, 28
PAPER, INK = (255, 255, 255), (30, 30, 30)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?", type=Path, default=ROOT / "samples" / "coffee.png")
    parser.add_argument("-o", "--output", type=Path, default=Path("demo-out"))
    args = parser.parse_args()
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)

    original = load_picture(args.picture)
    photo = folder / "photo.png"
    Image.fromarray(original).save(photo, optimize=True)
    inr, once, twice = folder / "photo.inr", folder / "decoded.png", folder / "decoded-2x.png"
    _command("encode", photo, "-o", inr, "-f")
    _command("info", inr)
    _command("decode", inr, "-o", once, "-f")
    _command("decode", inr, "--scale", "2", "-o", twice, "-f")
    _command("verify", inr)

    rows = [_row("PNG, lossless", photo, original, original), _row("inrcodec", inr, load_picture(once), original)]
    target = inr.stat().st_size
    tuned = folder / "photo-psnr.inr"
    _command("encode", photo, "-o", tuned, "--tune", "psnr", "--target-size", str(target), "--quiet", "-f")
    _command("decode", tuned, "-o", folder / "decoded-psnr.png", "--quiet", "-f")
    rows.append(_row("inrcodec --tune psnr", tuned, load_picture(folder / "decoded-psnr.png"), original))
    for name, suffix, options in (
        ("JPEG 4:4:4, optimised", "jpg", {"subsampling": 0, "optimize": True}),
        ("JPEG 4:2:0, optimised", "420.jpg", {"subsampling": 2, "optimize": True}),
        ("WebP, method 6", "webp", {"method": 6}),
    ):
        path = folder / f"photo.{suffix}"
        quality = _nearest(original, path, target, "WEBP" if suffix == "webp" else "JPEG", options)
        rows.append(_row(f"{name}, quality {quality}", path, load_picture(path), original))

    _table(rows, original)
    picture = folder / "side-by-side.png"
    _side_by_side(
        [
            (f"original, {_kb(photo)} PNG", original),
            (f"decoded from {_kb(inr)} .inr", load_picture(once)),
            ("part of the decode at twice the size", _middle(load_picture(twice), original.shape[:2])),
        ]
    ).save(picture)
    print(f"\n{picture} shows the original, the decode, and a part of the decode at twice the size.")
    return 0


def _command(*parts: object) -> None:
    text = [str(part) for part in parts]
    print(f"\n$ {shlex.join(['inrcodec', *text])}", flush=True)
    subprocess.run([inrcodec_program(), *text], check=True)


def _nearest(original: np.ndarray, path: Path, target: int, file_format: str, options: dict[str, object]) -> int:
    """Write the picture at the quality whose file is nearest to the target in bytes; returns that quality."""

    def encode(quality: int) -> bytes:
        file = io.BytesIO()
        Image.fromarray(original).save(file, file_format, quality=quality, **options)
        return file.getvalue()

    low, high = 1, 97
    while high - low > 1:  # sizes rise with quality
        middle = (low + high) // 2
        low, high = (middle, high) if len(encode(middle)) <= target else (low, middle)
    best = min((low, high), key=_distance(encode, target))
    path.write_bytes(encode(best))
    return best


def _distance(encode: Callable[[int], bytes], target: int) -> Callable[[int], int]:
    return lambda quality: abs(len(encode(quality)) - target)


Row = tuple[str, Path, int, float, float]


def _row(name: str, path: Path, decoded: np.ndarray, original: np.ndarray) -> Row:
    similar = ssim(decoded=decoded, original=original, peak=255)
    return name, path, path.stat().st_size, psnr(decoded=decoded, original=original, peak=255), similar


def _table(rows: list[Row], original: np.ndarray) -> None:
    height, width, _ = original.shape
    print(f"\n{width}×{height}, files of about the same size; PSNR and SSIM of what each one decodes to")
    print(f"{'codec':38}{'file':20}{'bytes':>9}{'bpp':>8}{'PSNR dB':>9}{'SSIM':>8}")
    for name, path, n, db, similar in rows:
        shown = "exact" if db == float("inf") else f"{db:.2f}"
        print(f"{name:38}{path.name:20}{n:9,}{8 * n / (width * height):8.3f}{shown:>9}{similar:8.4f}")
    lossy = [row for row in rows if row[3] != float("inf")]
    print(f"Highest PSNR: {max(lossy, key=lambda r: r[3])[0]}. Highest SSIM: {max(lossy, key=lambda r: r[4])[0]}.")
    print("The default is tuned for eyes: it gives up some PSNR, which --tune psnr keeps. One picture proves little;")
    print("docs/benchmarks.md has more of them.")


def _middle(large: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    y, x = ((n - m) // 2 for n, m in zip(large.shape, shape, strict=False))
    return large[y : y + shape[0], x : x + shape[1]]


def _side_by_side(panels: list[tuple[str, np.ndarray]]) -> Image.Image:
    height, width, _ = panels[0][1].shape
    sheet = Image.new("RGB", (len(panels) * (width + MARGIN) + MARGIN, height + CAPTION + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=16)
    for i, (caption, pixels) in enumerate(panels):
        x = MARGIN + i * (width + MARGIN)
        draw.text((x, MARGIN), caption, INK, font=font)
        sheet.paste(Image.fromarray(pixels), (x, MARGIN + CAPTION))
    return sheet


def _kb(path: Path) -> str:
    return f"{path.stat().st_size / 1000:.1f} kB"


if __name__ == "__main__":
    sys.exit(main())
