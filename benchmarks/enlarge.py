"""How near pictures enlarged twice come to their originals: halved, coded, and decoded at twice the samples.

    python benchmarks/enlarge.py PHOTO… [--halve box|lanczos] [--quality 60,80] [--tune psnr]

Beside the decode: the same file without its detail network, and its decode at scale 1 enlarged by Lanczos. PSNR in dB
and SSIMULACRA2 of each; docs/compression.md has the figures.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import table
from inrcodec.formats.container import InrFile, pack
from PIL import Image

import inrcodec
from inrcodec.bench import load_picture, ssimulacra2
from inrcodec.metrics import psnr

HALVINGS = {"box": Image.Resampling.BOX, "lanczos": Image.Resampling.LANCZOS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--halve", choices=HALVINGS, default="box")
    parser.add_argument("--quality", default="60,80", help="several joined by commas")
    parser.add_argument("--tune", choices=["psnr", "perceptual"], default="psnr")
    asked = parser.parse_args()
    rows = []
    for quality in (float(q) for q in asked.quality.split(",")):
        found = []
        for photo in asked.photos:
            original = load_picture(photo)
            original = original[: original.shape[0] // 2 * 2, : original.shape[1] // 2 * 2]
            enlarged = enlargements(original, HALVINGS[asked.halve], quality, asked.tune)
            measured = [
                (psnr(decoded=e, original=original, peak=255), ssimulacra2(decoded=e, original=original))
                for e in enlarged
            ]
            found.append(measured)
            rows.append((f"{photo.name}, {quality:g}", *(f"{db:.2f}, {eyes:.1f}" for db, eyes in measured)))
        rows.append((f"mean, {quality:g}", *(f"{db:.2f}, {eyes:.1f}" for db, eyes in np.mean(found, axis=0))))
    print(table(("photo, quality", "network off", "Lanczos of ×1", "network on"), rows))


def enlargements(
    original: np.ndarray, halving: Image.Resampling, quality: float, tune: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uint8 pictures as large as the original, of one file of its half: decoded without and, last, with the detail
    network; between them Lanczos of the decode at scale 1."""
    height, width, _ = original.shape
    half = Image.fromarray(original).resize((width // 2, height // 2), halving)
    data = inrcodec.encode(half, quality=quality, tune=tune)
    read = InrFile.of_bytes(data).stream()
    plain = inrcodec.open(pack(replace(read, header=replace(read.header, field=replace(read.header.field, detail=0)))))
    shown = Image.fromarray(plain.decode()).resize((width, height), Image.Resampling.LANCZOS)
    return plain.decode(scale=2), np.asarray(shown), inrcodec.open(data).decode(scale=2)


if __name__ == "__main__":
    main()
