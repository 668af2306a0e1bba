"""What the tests of the command line share; the fixture `cli` is in conftest.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import inrcodec
from inrcodec.metrics import psnr

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "samples"
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


def process(args: Sequence[object], folder: Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "inrcodec", *(str(part) for part in args)]
    return subprocess.run(command, cwd=folder, input=stdin, capture_output=True, env=ENV, timeout=120, check=False)


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, *, after: int) -> Iterator[None]:
    """Ctrl-C once the module's generator of that name has yielded so often."""
    whole = getattr(module, name)

    def stopping(*args: object, **named: object) -> Iterator[object]:
        yield from islice(whole(*args, **named), after)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, name, stopping)
        yield


def sample(name: str, to: str | None = None) -> str:
    """Copy a sample to the current folder."""
    shutil.copy(SAMPLES / name, to or name)
    return to or name


def ok(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.err
    return outcome


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def quality(inr: str, original: str) -> float:
    """PSNR in dB of what a file decodes to, beside an 8-bit original."""
    return psnr(decoded=inrcodec.open(inr).decode(), original=pixels(original), peak=255)
