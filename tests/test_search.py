"""ENRP's Algorithm 1: its rounds on scores made up here, its trainings on tiny pictures, its command."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from inrcodec.cli.main import main
from inrcodec.formats.memory import from_array
from PIL import Image

import inrcodec
from inrcodec import search as search_module
from inrcodec.cost import ptflops_style
from inrcodec.errors import FormatError
from inrcodec.search import (
    PAPER_DB,
    Evaluation,
    Problem,
    Scored,
    SearchSettings,
    default_bound,
    search,
    sweep_all,
    sweep_by_turns,
)
from inrcodec.search_result import Found, chosen_settings, document, pack, parse
from inrcodec.settings import EncodeSettings
from inrcodec.signals import Signal

SAMPLES = Path(__file__).parent.parent / "samples"


def flops(width: int, depth: int) -> int:
    return ptflops_style(128**2, width, depth)


def scores_of(table: dict[tuple[int, int], float], asked: list[tuple[int, int]] | None = None):
    def score(width: int, depth: int) -> Scored:
        if asked is not None:
            asked.append((width, depth))
        return Scored(width, depth, flops(width, depth), 0, 0.0, table.get((width, depth), -100.0))

    return score


def picture(seed: int = 0, side: int = 12) -> Signal:
    y, x = np.mgrid[:side, :side] / side
    values = 0.5 + 0.4 * np.stack([np.sin(5 * x + seed), np.cos(4 * y), np.sin(3 * (x + y))], -1)
    return from_array((255 * values).astype(np.uint8), 0)


TINY = SearchSettings(
    grid="2", widths=(2, 4), depths=(0, 1), start=(8, 1), iterations=12, repeats=2, max_flops=1e5, device="cpu"
)


def test_rounds_take_turns_and_stop_when_nothing_changes() -> None:
    # ENRP at M = 8, scores of a re-implementation: 64 at depth 3, then depth 1, where 128 becomes affordable
    table = {(16, 3): 18.15, (32, 3): 28.4, (64, 3): 41.4, (64, 1): 44.8, (64, 2): 41.9, (64, 4): 41.2, (64, 5): 40.5,
             (16, 1): 17.0, (32, 1): 28.7, (128, 1): 67.6}  # fmt: skip
    asked: list[tuple[int, int]] = []
    result = sweep_by_turns(scores_of(table, asked), flops, SearchSettings())
    assert [(s.round, s.axis, s.chosen) for s in result.sweeps] == [
        (1, "width", (64, 3)), (1, "depth", (64, 1)), (2, "width", (128, 1)), (2, "depth", (128, 1)),
        (3, "width", (128, 1)), (3, "depth", (128, 1)),
    ]  # fmt: skip
    assert result.converged
    assert result.best.pair == (128, 1)
    assert all(flops(*pair) <= 1e9 for pair in asked)  # the start, 256x3, is never trained


def test_the_last_round_allowed_is_said_to_be_that() -> None:
    table = {(64, 3): 1.0, (64, 1): 2.0, (128, 1): 3.0}
    result = sweep_by_turns(scores_of(table), flops, SearchSettings(max_rounds=1))
    assert (result.best.pair, result.converged) == ((64, 1), False)


def test_rounds_can_stick_where_trying_all_does_not() -> None:
    # ENRP at M = 4: 64x2 beats its neighbours, 128x1 is better
    table = {(64, 3): 36.0, (64, 2): 36.65, (64, 1): 36.1, (128, 1): 43.0}
    assert sweep_by_turns(scores_of(table), flops, SearchSettings()).best.pair == (64, 2)
    everything = sweep_all(scores_of(table), flops, SearchSettings())
    assert everything.best.pair == (128, 1)
    assert len(everything.sweeps[0].tried) == 16  # those of at most Algorithm 1's GFLOP


def test_a_bound_below_every_pair_is_refused_with_the_smallest() -> None:
    problem = Problem.of(picture(), TINY)
    least = problem.flops(2, 0)
    with pytest.raises(ValueError, match=f"width 2 and depth 0, has {least:,}"):
        search(problem, SearchSettings(**{**TINY.__dict__, "max_flops": least - 1}))


def test_a_line_that_is_all_too_large_goes_on_from_its_cheapest_end() -> None:
    narrow = SearchSettings(widths=(64, 128), depths=(1, 9), start=(128, 9), max_flops=6e8)
    result = sweep_by_turns(scores_of({(64, 1): 1.0, (128, 1): 2.0}), flops, narrow)
    assert result.sweeps[0].tried == ()
    assert result.best.pair == (128, 1)


def test_known_trainings_are_not_made_again_and_give_the_same_result() -> None:
    problem = Problem.of(picture(), TINY)
    made: list[Evaluation] = []
    first = search(problem, TINY, on_evaluation=made.append)
    assert len(made) == len({(e.width, e.depth, e.seed) for e in made})
    again: list[Evaluation] = []
    assert search(problem, TINY, known=made, on_evaluation=again.append) == first
    assert again == []


def test_the_score_is_the_mean_psnr_less_what_flops_cost() -> None:
    problem = Problem.of(picture(), TINY)
    made: list[Evaluation] = []
    best = search(problem, TINY, on_evaluation=made.append).best
    own = [e.psnr_db for e in made if (e.width, e.depth) == best.pair]
    assert len(own) == TINY.repeats
    assert best.psnr_db == pytest.approx(np.mean(own))
    assert best.score == pytest.approx(np.mean(own) + PAPER_DB - 7 * math.log10(best.flops))
    assert best.flops == ptflops_style(144, *best.pair)
    assert best.parameters == 4 * sum(e * (2 + 3 + 1) + 3 + best.depth * (e * e + e) for e in [best.width])


def test_trainings_in_one_batch_are_what_they_are_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem.of(picture(), TINY)
    together: list[Evaluation] = []
    search(problem, TINY, on_evaluation=together.append)
    monkeypatch.setattr("inrcodec.search.fits_at_once", lambda *_: 1)
    alone: list[Evaluation] = []
    search(problem, TINY, on_evaluation=alone.append)
    for a, b in zip(together, alone, strict=True):
        # batched products add in another order, and the step kept is that of the best sum
        assert a.psnr_db == pytest.approx(b.psnr_db, abs=0.2)


def test_the_papers_recipe_puts_border_samples_on_the_border() -> None:
    problem = Problem.of(picture(), SearchSettings(**{**TINY.__dict__, "recipe": "paper"}))
    assert problem.cells.coords.min() == -1
    assert problem.cells.coords.max() == 1
    assert problem.shape(8, 1).omega == 30


@pytest.mark.parametrize(
    ("shape", "cells", "bias"),
    [((12, 12), "2", "1/sqrt(in)"), ((12, 12), "3", "1/sqrt(in*out)"), ((12, 12), "4x1", "1/sqrt(in*out)"),
     ((12,), "2", "1/sqrt(in)"), ((12,), "3", "1/sqrt(in*out)"), ((12,), "4", "1/sqrt(in*out)")],
)  # fmt: skip
def test_the_papers_two_rules_for_biases_part_at_two_cells_per_axis(
    shape: tuple[int, ...], cells: str, bias: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []

    def train(*args: object, **options: object) -> np.ndarray:
        used.append(options["bias"])
        return trained(*args, **options)

    trained = search_module.train
    monkeypatch.setattr(search_module, "train", train)
    values = np.random.default_rng(0).random(shape)
    signal = from_array((255 * values).astype(np.uint8), 0) if len(shape) == 2 else from_array(values - 0.5, 8000)
    settings = SearchSettings(**{**TINY.__dict__, "recipe": "paper", "grid": cells, "iterations": 1})
    search(Problem.of(signal, settings), settings)
    assert set(used) == {bias}


def test_a_result_survives_its_file_and_damage_is_said() -> None:
    problem = Problem.of(picture(), TINY)
    made: list[Evaluation] = []
    result = search(problem, TINY, on_evaluation=made.append)
    data = pack(document(problem.facts, TINY, made, result))
    assert parse(data) == Found(problem.facts, tuple(made), result.best.pair)
    unfinished = parse(pack(document(problem.facts, TINY, made, None)))
    assert unfinished.pair is None
    with pytest.raises(ValueError, match="not ended"):
        chosen_settings(unfinished, picture(), EncodeSettings())
    with pytest.raises(ValueError, match="another signal"):
        chosen_settings(parse(data), picture(seed=1), EncodeSettings())
    for bad in (b"", b"{}", b"[1]", data[:-20], data.replace(b'"version": 1', b'"version": 9'),
                data.replace(b'"psnr_db"', b'"psnr"')):  # fmt: skip
        with pytest.raises(FormatError):
            parse(bad)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(SAMPLES / "tiny.png", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(line: str) -> int:
    with pytest.raises(SystemExit) as done:
        main(line.split())
    return int(done.value.code or 0)


COMMAND = "search tiny.png --grid 3 --widths 2,3 --depths 0-1 --start 3x1 --repeats 1 --iterations 10"


def test_the_command_keeps_its_result_and_encode_uses_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(f"{COMMAND} --plot way.png") == 0
    said = capsys.readouterr().out
    assert "iteration 1, widths at depth 1" in said
    assert "best after" in said
    with Image.open("way.png") as plot:
        assert np.asarray(plot.convert("L")).std() > 5  # something is drawn
    assert run(f"{COMMAND} --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["result"]["converged"]
    assert {e["width"] for e in found["evaluations"]} <= {2, 3}
    assert run("encode tiny.png --search tiny.search.json --iterations 10 --quiet") == 0
    spec = inrcodec.open("tiny.inr").header
    assert (spec.field.arch, spec.cells) == ("ensemble", (3, 3))
    assert (spec.field.width, spec.field.depth) == (found["result"]["width"], found["result"]["depth"])


def test_a_search_of_something_else_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(COMMAND) == 0
    before = Path("tiny.search.json").read_bytes()
    assert run(COMMAND.replace("--iterations 10", "--iterations 11")) == 2
    assert "iterations 10, not 11" in capsys.readouterr().err
    assert Path("tiny.search.json").read_bytes() == before
    assert run(COMMAND.replace("--iterations 10", "--iterations 11") + " -f") == 0
    shutil.copy("tiny.png", "other.search.json")
    assert run(COMMAND + " -o other.search.json") == 2
    assert "not a result of inrcodec search" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("search tiny.png --max-flops 5", "too few for any pair"),
        ("search tiny.png --widths 4,x", "not a list of numbers"),
        ("search tiny.png --start 256", "not a width and a depth"),
        ("search tiny.png --plot way.txt", "wanted .png, .svg or .pdf"),
        ("search tiny.png --grid 999", "cells on an axis"),
        ("encode tiny.png --width 4 --search tiny.png", "exclude each other"),
        ("encode tiny.png --arch multihead --search tiny.png", "is for ensembles"),
        ("encode tiny.png --search tiny.png", "not a result of inrcodec search"),
        ("encode --search tiny.png", "--search took tiny.png"),
        ("encode --search", "Missing argument"),
        ("search tiny.png -f -n", "exclude each other"),
    ],
)
def test_bad_commands_get_one_line(folder: Path, capsys: pytest.CaptureFixture[str], line: str, says: str) -> None:
    assert run(line) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_an_existing_search_or_plot_can_be_left_alone_and_trainings_be_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(COMMAND + " -n -v") == 0
    trainings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("width ")]
    assert len(trainings) == len(json.loads(Path("tiny.search.json").read_text())["evaluations"])
    before = Path("tiny.search.json").read_bytes()
    assert run(COMMAND.replace("--widths 2,3", "--widths 2,3,4") + " -n") == 0
    assert "tiny.search.json exists, left alone" in capsys.readouterr().err
    assert Path("tiny.search.json").read_bytes() == before
    shutil.copy("tiny.png", "way.png")
    assert run(COMMAND + " -o new.search.json --plot way.png -n") == 0
    assert "way.png exists, left alone" in capsys.readouterr().err
    assert not Path("new.search.json").exists()


def test_the_default_bound_grows_with_the_signal_but_not_below_the_papers() -> None:
    assert default_bound(picture(side=12).meta) == 1e9
    large = picture(side=12).meta.__class__("image", (1500, 1600), 3, "u1", "rgb")
    # per sample as much as the paper allows: the smallest pair of the default sets is far below
    assert default_bound(large) == pytest.approx(1e9 * 1500 * 1600 / 128**2)
    assert ptflops_style(1500 * 1600, 16, 1) < default_bound(large)
