"""Counts the range coder's starting tables from photos and sounds, and writes the package's tables_N.npz.

    python benchmarks/train_tables.py [--photos DIR] [--sounds DIR] [--only KINDS] [-o OUT]

KINDS: of smooth, cosine (from photos), time (from sounds), plain (from random numbers); others are kept as they are.

Photos are halved until no side is over 1,024 (their own compression must not be learned), coded at steps from fine
to coarse under both tunes, all symbols counted by context (those of the learned contexts come with their network, from
`inrcodec prior train --method contexts`). MLP tables are those of rounded normal numbers at many
scales. Prints the digest that priors/tables.py pins.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from inrcodec.entropy.alphabet import N_SYMBOLS, split
from inrcodec.entropy.context import N_CONTEXTS
from inrcodec.entropy.range_coder import RangeCoder
from inrcodec.entropy.tables import AdaptiveTables
from inrcodec.fields import make_field
from inrcodec.fields.cosine import CosineField
from inrcodec.grid import Grid
from inrcodec.priors import tables
from inrcodec.priors.networks import context_networks
from inrcodec.settings import EncodeSettings
from inrcodec.signals import SignalMeta
from inrcodec.stream import plan

PICTURE_STEPS = np.geomspace(6, 150, 6) / 255
SOUND_STEPS = np.geomspace(0.02, 1.2, 6)  # of the loudness


class Observer:
    """Stands in for the coder's starting counts: counts what the tables are asked to write."""

    def __init__(self) -> None:
        self.totals = {kind: np.zeros((n, N_SYMBOLS), np.int64) for kind, n in N_CONTEXTS.items()}

    def starting_counts(self, kind: str) -> np.ndarray:
        return np.ones((N_CONTEXTS[kind], N_SYMBOLS), np.int64)


def count(
    observer: Observer, samples: np.ndarray, meta: SignalMeta, steps: np.ndarray, *, only_smooth: bool = False
) -> None:
    for tune in ("psnr", "perceptual"):
        settings = EncodeSettings(tune=tune)
        grid = Grid.uniform(meta.shape, CosineField.default_cells(meta, settings))
        spec = replace(
            CosineField.plan_spec(meta, grid, settings, samples), dependent=False, deltas=False
        )  # as volumes
        field = make_field(spec, meta, grid)
        fitted = field.fit(samples, settings, lambda _: None)
        for step in steps * fitted.tuning.first_step:
            quantiser = field.quantiser(fitted, float(step))
            *knots, heads = field.layouts
            if only_smooth:
                codes = [field.smooth_codes(fitted, quantiser)]
                RangeCoder(observer.starting_counts, context_networks).encode(codes, knots, plan(knots, ()))
                continue
            codes = field.quantize(fitted, quantiser)
            if len(meta.shape) == 2:  # volumes are coded by what pictures teach: as volumes one sample deep
                # [C, M, M', *cells] -> [C, M, M', 1, *cells, 1]
                codes = (*codes[:-1], codes[-1][:, :, :, None, ..., None])
                frequencies, cells = (*heads.frequencies, 1), (*heads.cells, 1)
                heads = replace(heads, frequencies=frequencies, cells=cells, sizes=(*heads.sizes, (1,)))
            layouts = (*knots, heads)
            RangeCoder(observer.starting_counts, context_networks).encode(codes, layouts, plan(layouts, ()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--sounds", type=Path)
    parser.add_argument("--only", default=",".join(tables.KINDS), metavar="KINDS", help="joined by commas")
    parser.add_argument("-o", "--output", type=Path, default=Path(tables.__file__).parent / tables.FILE)
    asked = parser.parse_args()
    kinds, out = asked.only.split(","), asked.output
    if not set(kinds) <= set(tables.KINDS):
        parser.error(f"--only {asked.only}: wanted some of {', '.join(tables.KINDS)}")
    for folder, needed in ((asked.photos, {"smooth", "cosine"}), (asked.sounds, {"time"})):
        if folder is None and needed & set(kinds):
            parser.error(f"{', '.join(needed & set(kinds))}: from what?")
    observer = Observer()
    learn = AdaptiveTables._learn

    def observe(self: AdaptiveTables, symbols: np.ndarray, contexts: np.ndarray, spans: list[slice]) -> None:
        kind = next(k for k, n in N_CONTEXTS.items() if n == len(self.counts))  # kinds differ in their contexts
        for context, span in zip(contexts, spans, strict=True):
            observer.totals[kind][context] += np.bincount(symbols[span], minlength=N_SYMBOLS)
        learn(self, symbols, contexts, spans)

    AdaptiveTables._learn = observe  # type: ignore[method-assign]
    for path in sorted(asked.photos.glob("*.jpg")) if asked.photos else ():
        picture = Image.open(path).convert("RGB")
        while max(picture.size) > 1024:
            picture = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.BOX)
        samples = np.asarray(picture, np.float32) / 255
        meta = SignalMeta("image", samples.shape[:2], 3, "u1", "rgb")
        count(observer, samples, meta, PICTURE_STEPS, only_smooth="cosine" not in kinds)
        print(path.name, *picture.size, flush=True)
    for path in sorted(p for p in asked.sounds.iterdir() if p.suffix in (".flac", ".wav")) if asked.sounds else ():
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        if len(samples) < 4096:
            continue
        meta = SignalMeta("sound", samples.shape[:1], samples.shape[1], "i2", "plain", rate)
        count(observer, samples, meta, SOUND_STEPS * float(np.sqrt(np.mean(samples**2))))
        print(path.name, *samples.shape, flush=True)
    rng = np.random.default_rng(0)
    for sigma in np.geomspace(2, 60, 12):
        symbols, _ = split(np.abs(np.rint(rng.normal(0, sigma, 4000)).astype(np.int64)))
        observer.totals["plain"] += np.bincount(symbols, minlength=N_SYMBOLS)
    made = tables.from_counts(observer.totals)
    made = {kind: made[kind] if kind in kinds else tables.starting_counts(kind).astype(np.uint16) for kind in made}
    np.savez_compressed(out, **made)
    print(f"{out}: sha256 {tables.digest(made)}")


if __name__ == "__main__":
    main()
