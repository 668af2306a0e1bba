"""Sections psnr, eyes, effort and rates: bytes against quality, beside other codecs, on real files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from common import SLOW_EFFORT, Run, file_digest, read_table, say, signed, source_digest, table

from inrcodec.bench import WINDOWS, Comparison, Point, compare, labels, load_picture, mean_rows, measure
from inrcodec.peers import Codec, available_peers, ours, peer


def psnr_section(run: Run) -> str:
    """BD-rate in PSNR with --tune psnr."""
    return _section(run, "psnr", "psnr", ("jpeg", "webp", "avif", "jxl"))


def eyes_section(run: Run) -> str:
    """BD-rate in SSIMULACRA2 with --tune perceptual, the default."""
    return _section(run, "perceptual", "ssimulacra2", ("jpeg", "webp", "avif", "jxl"))


def effort_section(run: Run) -> str:
    """BD-rates at other efforts than the default."""
    peers = _peers(("jpeg", "webp", "avif", "jxl"))
    rows = []
    for tune, figure in (("psnr", "psnr"), ("perceptual", "ssimulacra2")):
        for effort in run.efforts:
            test = ours(tune, effort=effort)
            test = test.thinned() if run.quick or effort >= SLOW_EFFORT else test
            against = [p.thinned() for p in peers] if run.quick else peers
            points = _points(run, [test, *against], with_ssimulacra2=True)
            found = [signed(compare(points, test=test.name, anchor=p.name, figure=figure).mean) for p in against]
            own = "–"
            if run.table is not None and tune == "psnr":
                points += read_table(run.table, run.pictures)
                own = signed(compare(points, test=test.name, anchor=run.table.stem).mean)
            rows.append((test.label, "dB" if tune == "psnr" else "SSIMULACRA2", *found, own))
    note = f"Means of BD-rates over {len(run.pictures)} pictures; from -e {SLOW_EFFORT} on at every other quality.\n"
    head = ("codec", "at equal", *(p.label for p in peers), run.table.stem if run.table else "no table")
    return f"{note}\n{table(head, rows)}"


def rates_section(run: Run) -> str:
    """Every point: means over pictures."""
    codecs = [ours("psnr"), ours("perceptual"), *_peers(("jpeg", "webp", "avif", "jxl"))]
    codecs = [codec.thinned() for codec in codecs] if run.quick else codecs
    points = _points(run, codecs, with_ssimulacra2=True)
    rows = []
    for codec in codecs:
        for r in mean_rows(points, codec.name):
            eyes = "–" if r.ssimulacra2 is None else f"{r.ssimulacra2:.1f}"
            ssim = "–" if r.ssim is None else f"{r.ssim:.4f}"
            mean_mse = f"{r.psnr_of_mean_mse_db:.2f}"
            rows.append((codec.label, f"{r.setting:g}", f"{r.bpp:.4f}", f"{r.psnr_db:.2f}", mean_mse, eyes, ssim))
    head = ("codec", "quality", "bpp", "mean PSNR, dB", "PSNR of mean MSE, dB", "mean SSIMULACRA2", "mean SSIM")
    note = f"Mean over {len(run.pictures)} pictures; bpp: of the whole file; quality: on each codec's own scale.\n"
    return f"{note}\n{table(head, rows)}"


def _section(run: Run, tune: str, figure: str, peers: tuple[str, ...]) -> str:
    test = ours(tune)
    codecs = [test, *_peers(peers)]
    codecs = [codec.thinned() for codec in codecs] if run.quick else codecs
    points = _points(run, codecs, with_ssimulacra2=figure == "ssimulacra2")
    anchors = [(c.name, c.label) for c in codecs[1:]]
    if run.table is not None and figure == "psnr":
        points += read_table(run.table, run.pictures)
        anchors.append((run.table.stem, f"{run.table.stem}, its own table"))
    results = [compare(points, test=test.name, anchor=name, figure=figure) for name, _ in anchors]
    unit = "dB" if figure == "psnr" else "SSIMULACRA2"
    low, high = WINDOWS[figure]
    rows = []
    for (_, label), c in zip(anchors, results, strict=True):
        reach = "–" if c.mean is None else f"{c.low:.1f} to {c.high:.1f}"
        files = f"{len(c.by_file)} of {len(c.by_file) + len(c.skipped)}"
        rows.append((label, signed(c.mean), signed(c.of_mean), _extremes(c), reach, files))
    head = (
        "against",
        "mean of BD-rates",
        "BD-rate of averaged curves",
        "best, worst file",
        f"{unit} compared",
        "files",
    )
    note = (
        f"`--tune {tune}` over {low:g} to {high:g} {unit} as far as both curves of a file reach (the mean ends are in "
        "the table). Negative: fewer bytes for the same quality.\n"
    )
    by_file = [
        (file, *(signed(c.by_file[file][0]) if file in c.by_file else "–" for c in results))
        for file in labels(run.pictures)
    ]
    return f"{note}\n{table(head, rows)}\n{table(('file', *(c.anchor for c in results)), by_file)}"


def _extremes(c: Comparison) -> str:
    rates = [rate for rate, _, _ in c.by_file.values()]
    return f"{signed(min(rates))}, {signed(max(rates))}" if rates else "–"


def _peers(names: tuple[str, ...]) -> list[Codec]:
    return [peer(name) for name in names if name in available_peers()]


def _points(run: Run, codecs: list[Codec], *, with_ssimulacra2: bool) -> list[Point]:
    """All points, from the cache or measured now by run.jobs processes (so their times are not to be used)."""
    keys: dict[str, tuple[str, Path, str, float]] = {}
    ours_digest = source_digest()
    for path, label in zip(run.pictures, labels(run.pictures), strict=True):
        digest = file_digest(path)
        for codec in codecs:
            version = ours_digest if codec.name.startswith("inr-") else codec.version
            for setting in codec.ladder:
                keys[f"point {codec.name} {version} {digest} {setting:g}"] = (codec.name, path, label, setting)
    todo = {
        key: job
        for key, job in keys.items()
        if not (found := run.cache.get(key)) or (with_ssimulacra2 and found.get("ssim") is None)
    }
    try:
        for done, (key, point) in enumerate(_measured(run, todo, with_ssimulacra2), 1):
            run.cache.put(key, asdict(point))
            if done % 50 == 0 or done == len(todo):
                say(f"  {done} of {len(todo)} points")
                run.cache.save()
    finally:
        run.cache.save()
    return [Point(**{**run.cache.get(key), "file": job[2]}) for key, job in keys.items()]


def _measured(
    run: Run, todo: dict[str, tuple[str, Path, str, float]], with_ssimulacra2: bool
) -> Iterator[tuple[str, Point]]:
    if run.jobs == 1:
        for key, job in todo.items():
            yield key, _measure(*job, with_ssimulacra2)
        return
    threads = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"  # one thread in each worker
    try:
        with ProcessPoolExecutor(run.jobs, get_context("spawn")) as pool:
            waiting = {pool.submit(_measure, *job, with_ssimulacra2): key for key, job in todo.items()}
            try:
                for future in as_completed(waiting):
                    yield waiting[future], future.result()
            finally:  # after a failure or Ctrl-C, wait for no more than what is running
                pool.shutdown(cancel_futures=True)
    finally:
        if threads is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = threads


def _measure(name: str, path: Path, label: str, setting: float, with_ssimulacra2: bool) -> Point:
    if name.startswith("inr-"):
        tune, _, effort = name.removeprefix("inr-").partition("-")
        codec = ours(tune, effort=int(effort)) if effort else ours(tune)
    else:
        codec = peer(name)
    return measure(codec, load_picture(path), file=label, setting=setting, with_ssimulacra2=with_ssimulacra2)
