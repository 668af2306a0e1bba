"""Points that benchmarks carry over from an earlier source: only where files come out the same, as the page says."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inrcodec.bench import Point
from inrcodec.peers import ours

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import points
from common import Cache, Run

LADDER = (20.0, 50.0, 80.0)


def point(job: points.Job, n_bytes: int = 100) -> Point:
    return Point(job.codec, job.label, job.setting, n_bytes + int(job.setting), 64, 1.5, 0.0, 0.0)


@pytest.mark.parametrize("same", [True, False])
def test_points_are_carried_over_where_files_come_out_the_same(
    same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [tmp_path / f"{i}.png" for i in range(4)]
    for i, path in enumerate(pictures):
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(path)
    run, codec = Run(pictures, None, tmp_path), replace(ours("psnr"), ladder=LADDER)
    for source in ("older", "earlier"):
        for key, job in points._jobs(run, codec, source).items():
            run.cache.put(key, asdict(point(job, 100 if source == "earlier" else 7)))
    asked: list[points.Job] = []

    def measured(_: Run, todo: dict[str, points.Job], with_ssimulacra2: bool) -> Iterator[tuple[str, Any]]:
        asked.extend(todo.values())
        for i, (key, job) in enumerate(todo.items()):
            yield key, point(job, 100 if same or i < 3 else 101)  # the last one differs by a byte

    monkeypatch.setattr(points, "source_digest", lambda: "now")
    monkeypatch.setattr(points, "_measured", measured)
    found = points.points_of(run, [codec], with_ssimulacra2=False)
    assert [p.setting for p in found] == 4 * list(LADDER)
    first = asked[:4]
    assert [job.path for job in first] == pictures, "one file of each picture is looked at"
    assert {job.setting for job in first} == set(LADDER), "at qualities that go round"
    said = points.carried_over(run, [codec])
    if same:
        assert len(asked) == 4
        assert "12 of 12 points" in said and "at source earlier;" in said
        assert points.points_of(run, [codec], with_ssimulacra2=False) == found
        assert len(asked) == 4, "they are looked at once"
    else:
        assert len(asked) == 4 + 12
        assert said == ""


def test_a_section_that_is_left_out_is_the_one_measured_last_and_says_where() -> None:
    cache, key = Cache(None), "section speed {} False of these files"
    for source in ("first", "second", "first"):
        cache.put(key.format(source), f"{source}\nMeasured today.\n")
    cache.put("section large third False of these files", "large\n")
    cache.put("section speed third False of others", "others\n")
    assert cache.section(key.format("second")) == "second\nMeasured today.\n"
    assert cache.section(key.format("third")) == "first\nMeasured today. That was at source first.\n"
    assert cache.section("section speed third True of these files") is None
