"""The experiments of the four works: every figure has one, and docs/papers.md is what their results say."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

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
            assert size in ("full", "quick", "paper")
            for given in ("quick", "paper"):
                assert (f"--{given}" in result["command"]) == (size == given)
            assert result["machine"]
            assert result["seconds"] >= 0


def test_a_run_keeps_the_sizes_apart_and_shows_the_largest(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = importlib.import_module("experiment")
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "papers")
    monkeypatch.setattr(runner, "DOCS", tmp_path)
    monkeypatch.setattr(runner, "WORK", tmp_path / "work")

    def made(options: Any, steps: int) -> object:
        assert (options.store.folder is not None) == (steps == 3)  # only the paper's size is kept half done
        return experiment.Outcome(f"ours, {steps} steps", "| body |", (experiment.Check("a claim", "seen", steps > 1),))

    sizes = {"quick": 1, "full": 2, "paper": 3}
    one = experiment.Experiment((1,), "made-up", "A title", "paper's", made, sizes, cost="3 weeks")
    monkeypatch.setattr(runner, "experiments", lambda: [one])
    # the largest, and a stand-in beside the paper's size
    for args, shown in ((["--quick"], {1}), ([], {2}), (["--paper"], {2, 3}), (["--quick"], {2, 3})):
        monkeypatch.setattr(sys, "argv", ["run.py", *args])
        assert runner.main() == 0
        page = (tmp_path / "papers.md").read_text(encoding="utf-8")
        assert {n for n in sizes.values() if f"ours, {n} steps" in page} == shown
        assert (f"| ours, {max(shown)} steps |" in page) and ("stand-in 1 of 1 |" in page) == (3 in shown)
        assert ("made-up --paper`, estimated 3 weeks" in page) == (3 not in shown)
    assert "| a claim | seen | yes |" in page
    assert set(json.loads((tmp_path / "papers" / "made-up.json").read_text())) == set(sizes)


def test_missed_conditions_are_told_and_only_a_crash_is_an_exit_code(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = importlib.import_module("experiment")
    monkeypatch.setattr(runner, "RESULTS", tmp_path / "papers")
    monkeypatch.setattr(runner, "DOCS", tmp_path)

    def missing(options: Any, size: int) -> object:
        checks = (experiment.Check("too much", "seen", False), experiment.Check("enough", "seen", True))
        return experiment.Outcome("ours", "body", checks)

    def crashing(options: Any, size: int) -> object:
        raise ZeroDivisionError

    every = [experiment.Experiment((1,), n, "", "", f, {"quick": 1, "full": 1})
             for n, f in (("misses", missing), ("crashes", crashing))]  # fmt: skip
    monkeypatch.setattr(runner, "experiments", lambda: every)
    for name, code in (("misses", 0), ("crashes", 1)):
        monkeypatch.setattr(sys, "argv", ["run.py", name])
        assert runner.main() == code
    assert "conditions missed: 1\n  misses: too much: seen\n" in capsys.readouterr().err


def test_quick_and_paper_exclude_each_other(runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--paper", "--list"])
    with pytest.raises(SystemExit) as ended:
        runner.main()
    assert ended.value.code == 2


META = {"size": 16, "n_train": 3, "n_tests": 2, "short_side": 20, "width": 32, "outer_steps": 2, "steps_per_round": 1,
        "marks": (0,), "levels": (10, 12), "other_levels": (10,), "seeds": 1}  # fmt: skip
# Of the paper's sizes what has to shrink so that a step is no minute: never the networks of a picture, but those of
# meta-training, whose second-order step on 178 × 178 pixels takes 12 s
FEW = {
    "enrp-table1": {"networks": ("SIREN", "S1", "S2"), "steps": 1, "siren_steps": 1, "seeds": {"S2": 2}},
    "enrp-search": {"side": 16, "iterations": 1, "cells": (2, 4), "repeats": 2},
    "enrp-width": {"cells": (1, 4), "widths": (16, 32), "steps": 1, "pictures": 2, "seeds": 2, "n_cells": {4: 3}},
    "enrp-relu": {"cells": (4, 16), "steps": 2, "wanted": {16: 34.01}},
    "enrp-audio": {"networks": ("SIREN", "P2", "P4"), "seconds": 0.1, "steps": 1, "omegas": (30, 1000)},
    "mh-comparison": {"samples": (1,), "seeds": 2, "epoch": 0, "side": 64, "baseline_samples": (), "extras": False},
    "mh-generalisation": {"samples": (), "epoch": 1, "sides": (16, 64, 128, 256)},
    "mh-spectral": {"octaves": (1, 32), "heads": (1, 16), "epochs": 1, "side": 64},
    "partition-2d": {"products": (10, 20, 30, 40), "repeats": (1, 1, 1, 1)},
    "partition-pog": {"shape": (40, 28), "tall": (40, 28), "steps": 2, "tall_steps": 2},
    "partition-relu": {"shape": (40, 28), "steps": 4},
    "meta-training": META,
    "meta-baselines": META,
    "meta-signals": META | {"other_levels": (8, 10, 12)},
    "meta-two-step": META | {"seeds": 2, "levels": (10,)},
    "meta-partition": {"size": 16, "short_side": 32, "outer_steps": 2, "look_every": 2, "n_tests": 2},
}


@pytest.mark.parametrize("name", FEW)
def test_the_papers_size_runs_where_it_is_cut_to_a_few_steps(
    runner: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modules = {n: importlib.import_module(n) for n in ("experiment", "keep", "metatrain", "partition_steps")}
    monkeypatch.setattr(modules["metatrain"], "CACHE", tmp_path)
    monkeypatch.setattr(modules["metatrain"], "FIT_STEPS", 20)
    monkeypatch.setattr(modules["partition_steps"], "LIMIT", 2)
    (one,) = (e for e in runner.experiments() if e.name == name)
    small = replace(one.sizes["paper"], **FEW[name])
    said: list[str] = []
    store = modules["keep"].Store(tmp_path / name, said.append)
    outcome = one.run(modules["experiment"].Options(None, "cpu", 0, said.append, store), small)
    assert outcome.ours
    assert "|---|" in outcome.body
    assert outcome.checks
    if not name.startswith(("meta", "enrp-search")):  # those have files of their own
        n = len(said)
        assert one.run(modules["experiment"].Options(None, "cpu", 0, said.append, store), small).ours == outcome.ours
        assert any("kept from an earlier run" in line for line in said[n:])


def test_all_papers_sizes_are_tried(runner: ModuleType) -> None:
    assert {e.name for e in runner.experiments() if "paper" in e.sizes} == set(FEW)


def test_papers_sizes_are_the_papers(runner: ModuleType) -> None:
    """Counts of parameters and of trainings that the papers, or their authors' code, have."""
    sizes = {e.name: e.sizes["paper"] for e in runner.experiments() if "paper" in e.sizes}
    assert len(sizes["enrp-width"].runs) * 20 * 10 == 7000
    nets = sizes["mh-comparison"].nets
    assert [n.n_parameters for n in nets.values()] == [1_250_816, 1_248_717, 1_248_211]
    assert sizes["mh-spectral"].base.n_parameters == 2_295_296
    layers = importlib.import_module("inrcodec.fields.layers")
    one, nine = (layers.MlpShape(2, w, 3, 3, "siren").n_parameters for w in sizes["partition-pog"].widths)
    assert (one, 9 * nine) == (791_043, 794_097)
    one, nine = (layers.MlpShape(240, w, 3, 3, "relu").n_parameters for w in sizes["partition-relu"].widths)
    assert (one, 9 * nine) == (912_899, 920_439)
    assert layers.MlpShape(2, sizes["meta-partition"].width, 3, 3, "siren").n_parameters == 50_307
    faces = sizes["meta-training"]
    assert faces.outer_steps + 20 * faces.steps_per_round == 750_000
    assert 3 * faces.width**2 + 5 * faces.width == 197_888
    assert sizes["enrp-audio"].seconds is None
    assert (sizes["enrp-search"].repeats, sizes["enrp-search"].cells) == (5, (2, 4, 8, 16, 32))
    plane = sizes["partition-2d"]
    assert (len(plane.products), set(plane.repeats), plane.sides) == (25, {5}, (256,))
    assert sizes["enrp-table1"].seeds == {"S2": 5, "S4": 5}


@pytest.mark.parametrize("body", ["siren", "heads"])
def test_a_training_that_is_cut_ends_as_if_it_had_not_been(
    runner: ModuleType, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, heads = importlib.import_module("keep"), importlib.import_module("multihead_recipe")
    enrp = importlib.import_module("enrp_recipe")
    picture = np.random.default_rng(0).random((8, 8))

    def train(watch: Any) -> Any:
        if body == "heads":
            net = heads.Heads(2, 12, 5, bias=True)
            return heads.fit(net, picture, None, epochs=70, seed=1, device="cpu", watch=watch)
        return enrp.fit(picture[..., None] * 2 - 1, enrp.Network("x", 2, 1, 8), steps=70, seed=1, watch=watch)

    class Cut(Exception):
        pass

    class Until(keep.Watch):
        def on_step(self, progress: Any) -> None:
            super().on_step(progress)
            if progress.step == 40:
                raise Cut

    monkeypatch.setattr(keep, "SAVE_EVERY_S", 0)
    ticker = keep.Ticker(lambda _: None, "")
    whole = train(keep.Watch(None, ticker))
    with pytest.raises(Cut):
        train(Until(tmp_path / "x.npz", ticker))
    watch = keep.Watch(tmp_path / "x.npz", ticker)
    rest = train(watch)
    assert replace(rest, seconds=0) == replace(whole, seconds=0)  # to the last bit: the same sums in the same order
    assert [look.step for look in watch.looks] == list(range(0, 71, 10))


def test_cells_that_stand_for_all_are_spread_over_the_picture(runner: ModuleType) -> None:
    enrp = importlib.import_module("enrp_recipe")
    for n, wanted in ((64, 4), (10, 3), (7, 6), (5, 1)):
        edges = [k * n // wanted for k in range(wanted + 1)]
        assert all(a <= i < b for i, a, b in zip(enrp.spread(n, wanted), edges[:-1], edges[1:], strict=True))
    picture = np.random.default_rng(0).uniform(-1, 1, (8, 8, 3)).astype(np.float32)
    (cell,) = enrp.spread(4, 1)
    y, x = 4 * (cell // 2), 4 * (cell % 2)
    alone = enrp.fit(picture[y : y + 4, x : x + 4], enrp.Network("x", 1, 1, 8), steps=20, seed=1)
    assert enrp.fit(picture, enrp.Network("x", 2, 1, 8), steps=20, seed=1, n_cells=1).curve == alone.curve


def test_a_descent_ends_when_the_best_step_is_long_past() -> None:
    fitting, torch = importlib.import_module("inrcodec.fitting"), importlib.import_module("torch")
    p = torch.ones(1, requires_grad=True)

    def loss() -> Any:  # from 1 on, steps of .5 only circle the minimum
        value = (p - 1).square().sum()
        value.backward()
        return value.detach()

    with torch.no_grad():
        p += 0.2
    report = fitting.descend(
        [p], loss, adam=fitting.AdamSettings(0.5), iterations=10_000, stage="fit", on_step=lambda _: None,
        keep="last", patience=50,
    )  # fmt: skip
    assert report.steps < 10_000
    assert report.steps % 10 == 0  # 50 after the best of those looked at


def test_pictures_fall_back_to_stand_ins_that_say_so(runner: ModuleType, tmp_path: Path) -> None:
    experiment = importlib.import_module("experiment")
    options = experiment.Options(tmp_path, "cpu", 0, print, importlib.import_module("keep").Store(None, print))
    _, name = experiment.photo(options, "papers/enrp-image.jpg")
    assert "astronaut" in name
    (tmp_path / "papers").mkdir()
    Image.fromarray(np.full((4, 6, 3), 9, np.uint8)).save(tmp_path / "papers" / "enrp-image.jpg", quality=100)
    pixels, name = experiment.photo(options, "papers/enrp-image.jpg")
    assert (pixels.shape, name) == ((4, 6, 3), "enrp-image.jpg")


def test_networks_pruned_once_are_not_trained_again(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metatrain, tables = (importlib.import_module(n) for n in ("metatrain", "metatables"))
    experiment, keep = (importlib.import_module(n) for n in ("experiment", "keep"))
    monkeypatch.setattr(metatrain, "CACHE", tmp_path)
    options = experiment.Options(None, "cpu", 0, lambda _: None, keep.Store(None, lambda _: None))
    suite = metatrain.face_suite(options, replace(metatrain.PAPER, **META))
    made = tables.pruned(suite, "maml", (1, 2))
    monkeypatch.setattr(metatrain.meta, "train", None)
    assert options.store.earlier == []
    suite = replace(suite, options=replace(options, store=keep.Store(None, lambda _: None)))
    again = tables.pruned(suite, "maml", (1, 2))
    assert keep.UNTIMED in suite.options.store.earlier
    assert {k: s.mask.sum() for k, s in again.items()} == {k: s.mask.sum() for k, s in made.items()}


def test_a_kept_result_says_what_it_took_and_where(runner: ModuleType, tmp_path: Path) -> None:
    keep, enrp = importlib.import_module("keep"), importlib.import_module("enrp_recipe")
    one = enrp.Fitted(1.0, 2.0, {10: 3.0}, 0.5)
    for machine in ("a fast machine", "a slow one"):
        store = keep.Store(tmp_path, lambda _: None, machine)
        assert store.result("x", "key", lambda _: one, enrp.Fitted.load) == one
    assert [made.machine for made in store.earlier] == ["a fast machine"]
    assert store.earlier[0].seconds > 0


def test_rows_and_priors_of_files_are_of_one_size_and_one_code(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, experiment, keep = (importlib.import_module(n) for n in ("experiments_files", "experiment", "keep"))
    row = files._Row("x", "", 1, 2.0, 3.0, 4.0)
    ran: list[list[str]] = []

    def run(command: str, work: Path) -> float:
        ran.append(command.split())
        if ran[-1][0] != "search":
            Path(ran[-1][ran[-1].index("-o") + 1]).write_bytes(b"made")
        return 1.0

    monkeypatch.setattr(files, "KEPT", tmp_path)
    monkeypatch.setattr(files, "_inrcodec", run)
    monkeypatch.setattr(files, "_jpeg", lambda path, target: row)
    monkeypatch.setattr(files, "_opus", lambda path, target, work: row)
    monkeypatch.setattr(files.api, "compare", lambda a, b: {"snr_db": 5.0, "psnr_db": 6.0})
    (one,) = files.EXPERIMENTS

    def commands(size: str) -> list[list[str]]:
        ran.clear()
        store = keep.Store(None, lambda _: None)
        one.run(experiment.Options(None, "cpu", 0, lambda _: None, store), one.sizes[size])
        return list(ran)

    quick, full = commands("quick"), commands("full")
    assert [[c for c in made if c[0] == "prior"] for made in (quick, full)] != [[], []]
    assert {c[0] for c in full} == {"prior", "encode", "decode", "search"}
    priors = [{c[c.index("-o") + 1] for c in made if c[0] == "prior"} for made in (quick, full)]
    assert [len(p) for p in priors] == [3, 3]
    assert not priors[0] & priors[1]
    assert [{c[c.index("--prior") + 1] for c in made if "--prior" in c} for made in (quick, full)] == priors
    assert commands("quick") == commands("full") == []
    monkeypatch.setattr(files, "source_digest", lambda: "of another code")
    again = [c[0] for c in commands("full")]
    assert again.count("prior") == 3
    assert again.count("encode") == sum(bool(x.picture) + bool(x.sound) for x in files.SYSTEMS)


def test_products_in_tf32_show_in_the_command_and_the_machine(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--paper", "--tf32", "--device", "cpu"])
    args = runner._arguments()
    assert runner._command("x", "paper", args) == "python benchmarks/papers/run.py x --paper --tf32 --device cpu"
    assert runner._machine(args).startswith("matrix products in TF32, ")
