"""Claims about threads: files and pictures are the same whatever their number, and what goes wrong comes out."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import inrcodec
from inrcodec import threads
from inrcodec.fields import bases
from inrcodec.threads import each, n_threads


def test_results_are_in_the_order_of_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "n_threads", lambda: 3)
    both = threading.Barrier(2)
    names = each(lambda i: (both.wait(10), i)[1], range(6))  # two at a time, or the barrier breaks
    assert names == list(range(6))


@pytest.mark.parametrize("n", [1, 3])
def test_an_exception_comes_out(monkeypatch: pytest.MonkeyPatch, n: int) -> None:
    monkeypatch.setattr(threads, "n_threads", lambda: n)
    with pytest.raises(ZeroDivisionError):
        each(lambda i: 1 / i, [1, 0, 2])


def test_nothing_to_do_is_done() -> None:
    assert each(lambda i: i, []) == []


@pytest.mark.parametrize(("asked", "expected"), [("1", 1), ("1,2", 1), ("0", 1)])
def test_who_asks_for_one_thread_gets_one(monkeypatch: pytest.MonkeyPatch, asked: str, expected: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert n_threads() == expected


@pytest.mark.parametrize("asked", ["", "many", "1000"])
def test_other_wishes_are_the_cores(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    usual = n_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert n_threads() == usual <= threads.MAX_THREADS


def test_files_and_pictures_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    picture = np.clip(np.cumsum(rng.normal(0, 9, (270, 136, 3)), 1) + 128, 0, 255).astype(np.uint8)
    monkeypatch.setattr(bases, "BLOCK_VALUES", 2**14)  # several runs, as large pictures have
    monkeypatch.setattr("inrcodec.fields.cosine.MIN_DELTA_SAMPLES", 0)
    monkeypatch.setattr("inrcodec.render.BLOCK_VALUES", 2**14)
    found = []
    for n in (1, 4):
        monkeypatch.setattr(threads, "n_threads", lambda n=n: n)
        data = inrcodec.encode(picture, grid="68x34")  # two tiles
        found.append((data, inrcodec.open(data).decode(), inrcodec.open(data).decode(scale=1.5)))
    (data, one, large), (same_data, same_one, same_large) = found
    assert data == same_data
    np.testing.assert_array_equal(one, same_one)
    np.testing.assert_array_equal(large, same_large)
