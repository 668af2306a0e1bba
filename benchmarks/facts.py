"""Section facts: claims that are either true or not, checked on real files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from common import Run, inrcodec_program, table

import inrcodec
from inrcodec.bench import load_picture
from inrcodec.metrics import psnr

WITHOUT_TORCH = (
    "import sys; import runpy; sys.argv = {argv!r}\ntry: runpy.run_module('inrcodec', run_name='__main__')\n"
    "except SystemExit as end:\n    assert not end.code, end.code\nprint('torch' in sys.modules, file=sys.stderr)"
)


def facts_section(run: Run) -> str:
    """What the decoder promises."""
    rows = []
    for label, check in (
        ("`decode --scale 1` writes the pixels that the Python decode gives", _program_and_library_agree),
        ("PSNR in the header − PSNR of the decoded file, dB", _header_psnr),
        ("`decode(scale=1)` beside `decode()`", _scale_one),
        ("`sample(coords)` beside `decode(scale=2)`, 8-bit steps beyond rounding", _sample_beside_decode),
        ("the same picture encoded twice", _same_bytes),
        ("`decode` imports torch", lambda run: _imports_torch(run, "decode")),
        ("`info` imports torch", lambda run: _imports_torch(run, "info")),
    ):
        try:
            found = check(run)
        except Exception as error:  # a fact that cannot be checked is reported as one
            found = f"not checked: {_one_line(error)}"
        rows.append((label, found))
    return table(("claim", "found"), rows)


def _one_line(error: Exception) -> str:
    """An exception as a cell of a table."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, subprocess.CalledProcessError) and error.stderr:
        said = error.stderr if isinstance(error.stderr, str) else error.stderr.decode(errors="replace")
        text = f"exit code {error.returncode}: {said.strip().splitlines()[-1]}"
    return " ".join(text.split())[:160].replace("|", "/")


def _encoded(run: Run) -> tuple[np.ndarray, Path]:
    path = run.work / "facts.inr"
    path.write_bytes(inrcodec.encode(run.pictures[0]))
    return load_picture(run.pictures[0]), path


def _program_and_library_agree(run: Run) -> str:
    _, path = _encoded(run)
    out = run.work / "facts.png"
    subprocess.run(
        [inrcodec_program(), "decode", path, "--scale", "1", "-o", out, "-f"], check=True, capture_output=True
    )
    return _same(load_picture(out), inrcodec.open(path.read_bytes()).decode(scale=1))


def _header_psnr(run: Run) -> str:
    original, path = _encoded(run)
    file = inrcodec.open(path)
    measured = psnr(decoded=file.decode(), original=original, peak=255)
    return f"{file.header.quality_mdb / 1000 - measured:+.4f}"


def _scale_one(run: Run) -> str:
    _, path = _encoded(run)
    return _same(inrcodec.open(path).decode(scale=1), inrcodec.open(path).decode())


def _sample_beside_decode(run: Run) -> str:
    """coords: [N, 2] rows and columns in sample units, sample i having its centre at i + 1/2."""
    _, path = _encoded(run)
    file = inrcodec.open(path)
    decoded = file.decode(scale=2)
    index = np.random.default_rng(0).integers(0, decoded.shape[:2], (2000, 2))
    sampled = np.asarray(file.sample((index + 0.5) / 2, scale=2))
    values = sampled.astype(np.float64) if sampled.dtype.kind == "u" else 255 * np.clip(sampled, 0, 1)
    beyond = np.abs(values - decoded[index[:, 0], index[:, 1]]).max() - 0.5
    return f"{max(0.0, float(beyond)):.6f}"


def _same_bytes(run: Run) -> str:
    first, second = (inrcodec.encode(run.pictures[0]) for _ in range(2))
    return "identical bytes" if first == second else "bytes differ"


def _imports_torch(run: Run, command: str) -> str:
    _, path = _encoded(run)
    argv = ["inrcodec", command, str(path)]
    argv += ["-o", str(run.work / "facts.png"), "-f"] if command == "decode" else []
    code = WITHOUT_TORCH.format(argv=argv)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return {"True": "yes", "False": "no"}[done.stderr.strip().splitlines()[-1]]


def _same(a: np.ndarray, b: np.ndarray) -> str:
    if a.shape != b.shape:
        return f"shapes differ: {a.shape}, {b.shape}"
    different = int(np.count_nonzero(a != b))
    return "identical" if not different else f"{different} of {a.size} values differ"
