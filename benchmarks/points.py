"""Points of pictures and codecs: from the cache, from an earlier source that makes the same files, or measured.

Points of our own belong to a source. Those of an earlier one are carried over where this source makes, of every
picture, at qualities that go round, a file of as many bytes that decodes with the same error; the page says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from common import Run, file_digest, say, source_digest

from inrcodec.bench import Point, labels, load_picture, measure
from inrcodec.peers import Codec, ours, peer

__all__ = ["carried_over", "points_of"]

SOURCE = "source"  # in a cached point that was carried over: where it was measured


class Job(NamedTuple):
    """One file: of which codec, picture and setting."""

    codec: str
    path: Path
    label: str
    setting: float


def points_of(run: Run, codecs: list[Codec], *, with_ssimulacra2: bool) -> list[Point]:
    """All points; those measured now by run.jobs processes (so their times are not to be used)."""
    for codec in codecs:
        if _is_ours(codec):
            _carry_over(run, codec)
    jobs = {key: job for codec in codecs for key, job in _jobs(run, codec, _version(codec)).items()}
    todo = {
        key: job
        for key, job in jobs.items()
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
    return [_point(run.cache.get(key)) for key in jobs]


def carried_over(run: Run, codecs: list[Codec]) -> str:
    """What the page says of points that another source measured; nothing where this one did."""
    notes = []
    for codec in filter(_is_ours, codecs):
        kept = [run.cache.get(key) for key in _jobs(run, codec, _version(codec))]
        sources = sorted({point[SOURCE] for point in kept if SOURCE in point})
        if sources:
            n = sum(SOURCE in point for point in kept)
            notes.append(
                f"{n} of {len(kept)} points of `{codec.label}` were measured at source {', '.join(sources)}; of this "
                f"source {len(run.pictures)} files, one of each picture, have the same bytes and error.\n"
            )
    return "".join(f"\n{note}" for note in notes)


def _is_ours(codec: Codec) -> bool:
    return codec.name.startswith("inr-")


def _version(codec: Codec) -> str:
    return source_digest() if _is_ours(codec) else codec.version


def _jobs(run: Run, codec: Codec, version: str) -> dict[str, Job]:
    """By key of the cache, picture after picture."""
    return {
        f"point {codec.name} {version} {file_digest(path)} {setting:g}": Job(codec.name, path, label, setting)
        for path, label in zip(run.pictures, labels(run.pictures), strict=True)
        for setting in codec.ladder
    }


def _carry_over(run: Run, codec: Codec) -> None:
    """Points of the source that was measured last, where this one has none and makes the same files."""
    now = source_digest()
    wanted = _jobs(run, codec, now)
    if any(run.cache.get(key) for key in wanted):
        return
    start = f"point {codec.name} "
    sources = dict.fromkeys(key.split()[2] for key in reversed([*run.cache.values]) if key.startswith(start))
    for source in sources:
        before = [run.cache.get(key) for key in _jobs(run, codec, source)]
        if not all(before):
            continue
        n = len(codec.ladder)
        looked_at = {key: job for i, (key, job) in enumerate(wanted.items()) if i % n == i // n % n}
        known = dict(zip(wanted, before, strict=True))
        say(f"  {codec.label}: do {len(looked_at)} files come out as at source {source}?")
        if all(
            (point.n_bytes, point.mse) == (known[key]["n_bytes"], known[key]["mse"])
            for key, point in _measured(run, looked_at, with_ssimulacra2=False)
        ):
            for key, point in known.items():
                run.cache.put(key, {SOURCE: source, **point})
        else:
            say("  no: measured anew")
        return


def _point(kept: dict[str, object]) -> Point:
    return Point(**{name: value for name, value in kept.items() if name != SOURCE})  # type: ignore[arg-type]


def _measured(run: Run, todo: dict[str, Job], with_ssimulacra2: bool) -> Iterator[tuple[str, Point]]:
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
