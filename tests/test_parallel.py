"""Parts of large signals in processes and threads: the same results, errors as ever, and nothing left behind."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import ENV, Cli
from inrcodec.cli.options import How
from PIL import Image
from threadpoolctl import threadpool_info, threadpool_limits

import inrcodec
from inrcodec import quantize
from inrcodec.entropy import range_coder
from inrcodec.errors import FormatError
from inrcodec.parallel import WorkerKilledError, in_processes, in_threads, single_blas

TWO_TILES = (24, 1200)  # 2 × 75 cells


def picture() -> np.ndarray:
    rows, columns = np.indices(TWO_TILES)
    waves = [np.sin(columns / (3 + k) + rows / 2) + np.cos(columns**1.3 / 90) for k in range(3)]
    noise = np.random.default_rng(5).normal(0, 12, (*TWO_TILES, 3))
    return np.clip(128 + 50 * np.stack(waves, 2) + noise, 0, 255).astype(np.uint8)


def sound() -> np.ndarray:
    t = np.arange(8192 * 70)
    return (0.4 * np.sin(t / 20) * (1 + np.sin(t / 9000)) / 2).astype(np.float32)


@pytest.fixture(autouse=True)
def anything_is_worth_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small signals in processes too."""
    monkeypatch.setattr(quantize, "MANY_CODES", 0)
    monkeypatch.setattr(range_coder, "MANY_CODES", 0)
    monkeypatch.setattr(range_coder, "MANY_BYTES", 0)


def blas_threads() -> set[int]:
    """Of numpy; other packages bring their own, which we do not use."""
    return {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas" and "numpy" in i["filepath"]}


def none_is_left() -> bool:
    """In the end: processes need a moment to go."""
    end = time.monotonic() + 20
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.05)
    return not multiprocessing.active_children()


def test_files_and_decodes_are_the_same_with_every_number_of_workers() -> None:
    plain = inrcodec.encode(picture(), quality=60)
    assert inrcodec.open(plain).info()["grid"] == [2, 75]
    shown = [inrcodec.open(plain).decode(scale=s) for s in (1.0, 0.5, 2.0)]
    part = inrcodec.open(plain).decode(region=(1000, 3, 60, 20))
    with inrcodec.workers(2):
        assert inrcodec.encode(picture(), quality=60) == plain
        assert multiprocessing.active_children()
        for values, s in zip(shown, (1.0, 0.5, 2.0), strict=True):
            np.testing.assert_array_equal(inrcodec.open(plain).decode(scale=s), values)
        np.testing.assert_array_equal(inrcodec.open(plain).decode(region=(1000, 3, 60, 20)), part)
    assert none_is_left()


def test_a_sound_of_several_tiles_is_the_same_too() -> None:
    plain = inrcodec.encode(sound(), sample_rate_hz=44100, quality=40)
    shown = inrcodec.open(plain).decode()
    with inrcodec.workers(2):
        assert inrcodec.encode(sound(), sample_rate_hz=44100, quality=40) == plain
        np.testing.assert_array_equal(inrcodec.open(plain).decode(), shown)


def test_rows_in_threads_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of blocks so small that there are many."""
    from inrcodec import render
    from inrcodec.fields import bases

    monkeypatch.setattr(bases, "BLOCK_VALUES", 2**14)
    monkeypatch.setattr(render, "BLOCK_VALUES", 2**14)
    pixels = np.tile(picture()[:, :400], (16, 1, 1))  # as large as it takes for deltas
    plain = inrcodec.encode(pixels, quality=50)
    assert inrcodec.open(plain).header.field.deltas
    shown = [inrcodec.open(plain).decode(scale=s) for s in (1.0, 1.5)]
    with inrcodec.workers(3):
        assert inrcodec.encode(pixels, quality=50) == plain
        for values, s in zip(shown, (1.0, 1.5), strict=True):
            np.testing.assert_array_equal(inrcodec.open(plain).decode(scale=s), values)


def test_a_damaged_tile_is_an_error_as_ever_and_the_workers_go_on() -> None:
    from inrcodec.formats.container import InrFile, pack

    from inrcodec.stream import Stream

    data = inrcodec.encode(picture(), quality=60)
    file = InrFile(io.BytesIO(data))
    payloads = [file.payload(i) for i in range(file.header.n_chunks)]
    payloads[-1] = payloads[-1][: len(payloads[-1]) // 2]
    damaged = pack(Stream(file.header, tuple(payloads), file.digest()))
    with inrcodec.workers(2):
        for _ in range(2):
            with pytest.raises(FormatError):
                inrcodec.open(damaged).decode()
        assert inrcodec.open(data).decode().shape == (*TWO_TILES, 3)


def test_results_come_in_order_and_errors_cancel_the_rest() -> None:
    with inrcodec.workers(2):
        assert list(in_processes(abs, [-1, 2, -3])) == [1, 2, 3]
        assert in_threads(abs, [-1, 2, -3]) == [1, 2, 3]
        with pytest.raises(TypeError):
            list(in_processes(abs, [1, "two", 3]))  # type: ignore[list-item]
        assert list(in_processes(abs, [-1, 2])) == [1, 2]


def test_processes_are_not_started_for_little() -> None:
    with inrcodec.workers(2):
        assert list(in_processes(abs, [-1, 2], worth_a_start=False)) == [1, 2]
        assert not multiprocessing.active_children()
        assert list(in_processes(abs, [-1, 2])) == [1, 2]
        assert multiprocessing.active_children()
        here = {os.getpid()}
        assert not here & set(in_processes(eval, ["__import__('os').getpid()"] * 2, worth_a_start=False))


def test_a_killed_process_is_said_to_want_memory_and_the_next_signal_has_new_ones() -> None:
    with inrcodec.workers(2):
        for _ in range(2):
            with pytest.raises(WorkerKilledError, match="a process was killed, probably for want of memory"):
                list(in_processes(os._exit, [9, 9]))
            assert list(in_processes(abs, [-1, -2])) == [1, 2]
    assert none_is_left()


class Fatal:
    """Kills the process that it is sent to."""

    def __call__(self, task: object) -> np.ndarray:
        raise AssertionError("not in a process of its own")

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (9,)


def test_a_killed_process_is_one_line_of_the_command_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture()).save("wide.png")
    monkeypatch.setattr(quantize, "_chosen", Fatal())
    failed = cli("encode wide.png -j 2")
    assert (failed.code, failed.err) == (
        3,
        "inrcodec: a process was killed, probably for want of memory; --jobs 1 needs less\n",
    )


def run(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=ENV, capture_output=True, text=True, timeout=60, check=False)


LEFT = """
import time
import inrcodec
from inrcodec.parallel import in_processes

with inrcodec.workers(2):
    for _ in in_processes(time.sleep, [0.01] * 200):
        raise KeyError(5)
"""


def test_leaving_before_the_end_is_quiet() -> None:
    """With many tasks under way and waiting."""
    done = run(LEFT)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1 and done.stderr.endswith("KeyError: 5\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("wait_s", [0.4, 0.9, 1.4])
def test_ctrl_c_ends_all_processes_with_one_line(tmp_path: Path, wait_s: float) -> None:
    pixels = np.tile(picture(), (2, 20, 1))  # 24 tiles and more, worth processes
    Image.fromarray(pixels).save(tmp_path / "long.png")
    script = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script += "from inrcodec.cli.main import main; main()"
    command = [sys.executable, "-c", script, "encode", "long.png", "-j", "2"]
    running = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, env=ENV, start_new_session=True)
    time.sleep(wait_s + 0.6)
    os.killpg(running.pid, signal.SIGINT)  # what a terminal does
    try:
        _, said = running.communicate(timeout=30)  # the pipe is closed once all of them are gone
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    assert (running.returncode, said) == (130, b"inrcodec: interrupted\n")


def test_a_script_without_its_guard_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import inrcodec\nfrom inrcodec.parallel import in_processes\n"
        "with inrcodec.workers(2):\n    list(in_processes(abs, [1, 2]))\n"
    )
    done = subprocess.run([sys.executable, script], env=ENV, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1] == (
        'RuntimeError: processes cannot start; a script that uses workers() wants `if __name__ == "__main__":`'
    )


def test_errors_that_cannot_be_pickled_are_still_errors() -> None:
    with inrcodec.workers(2), pytest.raises(RuntimeError, match="pickle"):
        list(in_processes(eval, ["lambda: 0", "lambda: 0"]))


@pytest.mark.skipif(not blas_threads(), reason="a BLAS that cannot be told")
def test_a_file_in_a_process_finds_numpys_blas() -> None:
    """Although it is asked before numpy is there."""
    probe = "[i['filepath'] for i in __import__('inrcodec.parallel').parallel._blas().info()]"
    with inrcodec.workers(2):
        found = list(in_processes(eval, [probe, probe], one_blas_thread=False))
    assert all(any("numpy" in path for path in paths) for paths in found)


def test_threads_heed_the_callers_numpy_errors() -> None:
    def overflow(x: float) -> float:
        return float(np.float32(x) * np.float32(1e38))

    with inrcodec.workers(2), np.errstate(all="ignore"):
        assert in_threads(overflow, [1e10, 1e10]) == [float("inf")] * 2
    with inrcodec.workers(2), np.errstate(all="raise"), pytest.raises(FloatingPointError):
        in_threads(overflow, [1e10, 1e10])


@pytest.mark.skipif(not blas_threads(), reason="a BLAS that cannot be told")
def test_single_blas_nests_and_is_given_back_whoever_ends_first() -> None:
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("one thread is all there is")
        entered, leave = threading.Event(), threading.Event()

        def other() -> None:
            with single_blas():
                entered.set()
                leave.wait(10)

        thread = threading.Thread(target=other)
        with single_blas():
            with single_blas():
                assert blas_threads() == {1}
            assert blas_threads() == {1}
            thread.start()
            assert entered.wait(10)
        assert blas_threads() == {2}
        leave.set()
        thread.join()
        assert blas_threads() == {2}
        with single_blas():
            assert blas_threads() == {1}


@pytest.mark.skipif(not blas_threads(), reason="a BLAS that cannot be told")
def test_encoding_and_decoding_keep_to_one_thread_of_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of them take twenty times as long beside a busy program of another session."""
    from inrcodec.fields.cosine import CosineField

    seen: list[set[int]] = []
    quantize, dequantize = CosineField.quantize, CosineField.dequantize
    monkeypatch.setattr(CosineField, "quantize", lambda *a: (seen.append(blas_threads()), quantize(*a))[1])
    monkeypatch.setattr(CosineField, "dequantize", lambda *a: (seen.append(blas_threads()), dequantize(*a))[1])
    with threadpool_limits(2, user_api="blas"):
        data = inrcodec.encode(picture()[:, :64], effort=1)
        n = len(seen)
        inrcodec.open(data).decode()
        assert len(seen) > n > 0
        assert all(threads == {1} for threads in seen)


@pytest.mark.parametrize(
    ("jobs", "n_files", "one_by_one", "wanted"),
    [(3, 5, False, (3, 1)), (3, 2, False, (2, 1)), (3, 1, False, (1, 3)), (3, 5, True, (1, 3)), (1, 5, False, (1, 1))],
)
def test_jobs_are_files_or_parts_of_one(jobs: int, n_files: int, one_by_one: bool, wanted: tuple[int, int]) -> None:
    assert How(jobs=jobs).of(n_files, one_by_one=one_by_one) == wanted


def test_without_jobs_files_come_one_by_one_and_parts_on_the_cores() -> None:
    files, parts = How().of(5)
    assert files == 1 and 1 <= parts <= 4


def test_wanting_no_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="0 workers: wanted 1 or more"), inrcodec.workers(0):
        pass


KILLED = """
import os, sys
import inrcodec
from inrcodec.parallel import in_processes

if __name__ == "__main__":
    with inrcodec.workers(2):
        for pid in in_processes(eval, ["__import__('os').getpid()"] * 2):
            print(pid, flush=True)
        os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes the Linux way")
def test_workers_end_with_a_process_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    done = subprocess.run([sys.executable, script], env=ENV, capture_output=True, text=True, timeout=60, check=False)
    pids = {int(line) for line in done.stdout.split()}
    assert done.returncode == -9 and pids
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
