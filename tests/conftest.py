"""Fixtures of the command line, and: under CI hypothesis draws the same examples every time, so that a failure there is
the change's, and can be repeated."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from command_line import Cli, Outcome, ok, sample
from hypothesis import settings
from inrcodec.cli.main import main

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(autouse=True, scope="session")
def _interrupts() -> Iterator[None]:
    """Ctrl-C is heard, also where a shell started the tests behind its back, with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs one command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(line: str | Sequence[str]) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(line) if isinstance(line, str) else [str(part) for part in line])
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, out, err)

    return run


@pytest.fixture
def tiny(cli: Cli) -> Cli:
    sample("tiny.png", "source.png")
    ok(cli("encode source.png -o tiny.inr --quiet"))
    return cli
