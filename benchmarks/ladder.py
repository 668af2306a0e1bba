"""Takes the default field's tools away one at a time and prints what each is worth in BD-rate on photos.

    python benchmarks/ladder.py PHOTO... [--tune psnr|perceptual] [--only NAMES] [--effort 1,5,9] [--table TSV]

Real files; against Pillow's JPEG 4:4:4 and WebP, and against the codec with all its tools: PSNR over 28 to 38 dB, with
--tune perceptual SSIMULACRA2 over 30 to 80. With --table, PSNR also against a codec's own figures (common.read_table).
MAC: multiply-accumulates a sample, of the first photo's finest file.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
from common import read_table

from inrcodec import api, quantize
from inrcodec.bench import Point, compare, load_picture, measure_ladder
from inrcodec.entropy import context, range_coder, tables
from inrcodec.entropy.context import tile_kind
from inrcodec.entropy.signs import SignNetwork
from inrcodec.fields import cosine, sizes, steps
from inrcodec.peers import ours, peer
from inrcodec.priors import networks
from inrcodec.priors.signs import sign_network
from inrcodec.stream import EQUAL, TensorLayout

SHIPPED = "as shipped"
LADDER = (20.0, 40.0, 55.0, 70.0, 80.0, 88.0)


def changes(tune: str) -> dict[str, list[AbstractContextManager[object]]]:
    """What to patch for the codec with one tool changed, by the name of the change."""
    no_shifts = patch.object(context, "best_shifts", lambda codes, *_, **__: np.zeros(codes.shape[:3], np.int8))
    no_deltas = patch.object(cosine, "MIN_DELTA_SAMPLES", 2**60)
    plain_signs = patch.object(networks, "sign_network", _without_opinion)
    return {
        SHIPPED: [],
        "plain signs": [plain_signs],
        "no synthesis network": [_tuned(tune, synthesis=0)],
        "no shifts": [no_shifts],
        "no deltas": [no_deltas],
        "six looks at that network": [patch.object(cosine, "LOOKS", 6)],
        "codes blind to that network": [_tuned(tune, heed=False)],
        "cells of 16 samples": [patch.object(sizes, "SIZES", ())],
        "fixed colour axes": [patch.object(cosine, "fit_rotation", lambda *_: ())],
        "one step for all frequencies": [_tuned(tune, slope=0)],
        "one step for all colours": [_tuned(tune, second=EQUAL)],
        "no masking": [_tuned(tune, masking=False)],
        "dependent codes and no more": [_tuned(tune, heed=False), no_deltas, no_shifts],
        "codes alone": [_tuned(tune, dependent=False)],
        "codes alone and plain signs": [_tuned(tune, dependent=False), plain_signs],
        "codes alone under sums of neighbours": [
            _tuned(tune, dependent=False),
            *(patch.object(module, "tile_kind", _without_learning) for module in (context, quantize, range_coder)),
        ],
        "plain rounding": [_tuned(tune, trade_corrected=0.0)],
        "half the trade": [_tuned(tune, trade_corrected=cosine.TUNINGS[tune].trade_corrected / 2)],
        "smooth level as it fits best": [patch.object(cosine, "STIFFNESS", 0.0)],
        "smooth level's step 1/6": [patch.object(steps, "SPLINE_STEP", 1 / 6)],
        "tables learn four times as fast": [patch.object(tables, "INCREMENT", 4 * tables.INCREMENT)],
    }


@contextmanager
def without(name: str, tune: str) -> Iterator[None]:
    """The codec with one tool changed."""
    with ExitStack() as stack:
        for change in changes(tune)[name]:
            stack.enter_context(change)
        yield


def _without_learning(layout: TensorLayout) -> str:
    """Which tile model: no learned contexts, nor signs that are foretold."""
    return {"learned": "cosine"}.get(kind := tile_kind(layout), kind)


def _without_opinion() -> SignNetwork:
    """Every sign is in one class, and costs a bit."""
    net = sign_network()
    return replace(net, last=0 * net.last)


def _tuned(tune: str, **changes: object):  # type: ignore[no-untyped-def]
    return patch.dict(cosine.TUNINGS, {tune: replace(cosine.TUNINGS[tune], **changes)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--tune", choices=["psnr", "perceptual"], default="psnr")
    parser.add_argument("--only", help="names, joined by commas")
    parser.add_argument("--peers", default="jpeg,webp", help="whom to compare with, joined by commas")
    parser.add_argument("--effort", default="5", help="1 to 9, several joined by commas: all for each")
    parser.add_argument("--table", type=Path, help="a codec's own points to compare with in PSNR")
    asked = parser.parse_args()
    if asked.table and asked.tune != "psnr":
        parser.error("--table has PSNR only: --tune psnr")
    figure = "psnr" if asked.tune == "psnr" else "ssimulacra2"
    eyes = asked.tune == "perceptual"
    peers = [peer(name) for name in asked.peers.split(",")]
    anchors = measure_ladder(peers, asked.photos, with_ssimulacra2=eyes)
    others = [p.name for p in peers]
    if asked.table:
        anchors += read_table(asked.table, asked.photos)
        others.append(asked.table.stem)
    tools = asked.only.split(",") if asked.only else [*changes(asked.tune)]
    shipped: dict[int, list[Point]] = {}  # by effort
    print(f"| {asked.tune} | {' | '.join(others)} | as shipped | encode s | decode s | MAC |")
    print("|---" * (len(others) + 5) + "|")
    first = load_picture(asked.photos[0])
    for name, effort in ((n, int(e)) for n in tools for e in asked.effort.split(",")):
        codec = ours(asked.tune, LADDER, effort=effort)
        with without(name, asked.tune):
            found = measure_ladder([codec], asked.photos, with_ssimulacra2=eyes)
            macs = api.open(codec.encode(first, LADDER[-1])).info()["macs_per_sample"]
        if name == SHIPPED:
            shipped[effort] = [replace(p, codec="shipped") for p in found]
        reference = shipped.get(effort, [])
        points = [*found, *anchors, *reference]
        rates = [
            f"{compare(points, test=codec.name, anchor=other, figure=figure).mean:+.1f} %" if other else "-"
            for other in (*others, "shipped" if reference else "")
        ]
        seconds = [sum(times) / len(found) for times in zip(*((p.encode_s, p.decode_s) for p in found), strict=True)]
        label = name if len(asked.effort) == 1 else f"{name}, -e {effort}"
        facts = [*rates, *(f"{s:.2f}" for s in seconds), f"{macs:,.0f}"]
        print(f"| {label} | {' | '.join(facts)} |", flush=True)


if __name__ == "__main__":
    main()
