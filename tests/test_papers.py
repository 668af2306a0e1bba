"""The experiments of the four works: every figure has one, and docs/papers.md is what their results say."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
PAPERS = ROOT / "benchmarks" / "papers"


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    """benchmarks/papers/run.py, with the folders its modules import each other from."""
    before = list(sys.path)
    sys.path[:0] = [str(PAPERS), str(PAPERS.parent)]
    try:
        yield importlib.import_module("run")
    finally:
        sys.path[:] = before


def test_every_row_of_the_table_has_an_experiment(runner: ModuleType) -> None:
    every = runner.experiments()
    assert {row for e in every for row in e.rows} == set(range(runner.N_ROWS + 1))  # 0: as codecs
    assert len({e.name for e in every}) == len(every)


def test_the_page_is_what_the_results_say(runner: ModuleType) -> None:
    assert (ROOT / "docs" / "papers.md").read_text(encoding="utf-8") == runner.page(runner.experiments())


def test_results_are_of_experiments_that_exist_and_say_how_they_were_made(runner: ModuleType) -> None:
    names = {e.name for e in runner.experiments()}
    found = sorted((ROOT / "docs" / "papers").glob("*.json"))
    assert found
    for path in found:
        assert path.stem in names
        for size, result in json.loads(path.read_text(encoding="utf-8")).items():
            assert size in ("full", "quick")
            assert ("--quick" in result["command"]) == (size == "quick")
            assert result["machine"]
            assert result["seconds"] >= 0


def test_a_run_keeps_both_sizes_apart_and_shows_the_full_one(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = importlib.import_module("experiment")
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "papers")
    monkeypatch.setattr(runner, "DOCS", tmp_path)

    def made(options: object) -> object:
        check = experiment.Check("a claim", "measured", not options.quick)
        return experiment.Outcome(f"ours, quick {options.quick}", "| body |", (check,))

    one = experiment.Experiment((1,), "made-up", "A title", "paper's", made)
    monkeypatch.setattr(runner, "experiments", lambda: [one])
    for args, code in ((["--quick"], 1), ([], 0)):
        monkeypatch.setattr(sys, "argv", ["run.py", *args])
        assert runner.main() == code  # a condition that is missed is an exit code
    page = (tmp_path / "papers.md").read_text(encoding="utf-8")
    assert "ours, quick False" in page
    assert "ours, quick True" not in page
    assert "| a claim | measured | yes |" in page
    assert set(json.loads((tmp_path / "papers" / "made-up.json").read_text())) == {"full", "quick"}


def test_pictures_fall_back_to_stand_ins_that_say_so(runner: ModuleType, tmp_path: Path) -> None:
    experiment = importlib.import_module("experiment")
    options = experiment.Options(tmp_path, True, "cpu", 0, lambda _: None)
    _, name = experiment.photo(options, "papers/enrp-image.jpg")
    assert "astronaut" in name
    (tmp_path / "papers").mkdir()
    Image.fromarray(np.full((4, 6, 3), 9, np.uint8)).save(tmp_path / "papers" / "enrp-image.jpg", quality=100)
    pixels, name = experiment.photo(options, "papers/enrp-image.jpg")
    assert (pixels.shape, name) == ((4, 6, 3), "enrp-image.jpg")
