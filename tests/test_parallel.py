"""Pieces of work side by side give what they give one after the other."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import inrcodec
from inrcodec import parallel
from inrcodec.parallel import each


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")


@pytest.mark.usefixtures("three_threads")
def test_results_keep_their_order_and_pieces_run_side_by_side() -> None:
    meet = threading.Barrier(3, timeout=20)

    def work(i: int) -> int:
        meet.wait()  # nobody gets past unless three are under way
        return i * i

    assert each(work, range(6)) == [i * i for i in range(6)]


@pytest.mark.usefixtures("three_threads")
def test_the_first_items_error_is_raised() -> None:
    def work(i: int) -> int:
        if i in (1, 4):
            raise ValueError(f"item {i}")
        return i

    with pytest.raises(ValueError, match="item 1"):
        each(work, range(6))


@pytest.mark.parametrize(("wanted", "most"), [("1", 1), ("2", 2), ("64", parallel.MAX_WORKERS)])
def test_as_many_threads_as_asked_for(monkeypatch: pytest.MonkeyPatch, wanted: str, most: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    seen = set()

    def work(_: int) -> None:
        seen.add(threading.get_ident())
        threading.Event().wait(0.01)

    each(work, range(40))
    assert len(seen) == most


def test_files_of_several_tiles_are_the_same_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    picture = np.cumsum(picture, 1, dtype=np.uint8) // 4  # not all noise
    files, decoded = set(), []
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        data = inrcodec.encode(picture, grid="75x45", quality=50)  # two tiles
        files.add(data)
        decoded.append(inrcodec.open(data).decode())
    assert len(files) == 1
    np.testing.assert_array_equal(*decoded)
