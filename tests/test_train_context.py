"""Claims about training a context network: what it sees, that it learns, goes on, and says what it made."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import interrupted
from inrcodec.cli.failures import run_command
from inrcodec.cli.main import inrcodec as command
from inrcodec.formats.files import read_signal
from PIL import Image

import inrcodec
from inrcodec import api
from inrcodec.entropy import TABLE_SETS
from inrcodec.entropy.alphabet import N_SYMBOLS, split
from inrcodec.entropy.learned import N_FEATURES, N_LEARNED_CLASSES, LearnedTile
from inrcodec.entropy.tables import AdaptiveTables
from inrcodec.errors import FormatError
from inrcodec.priors import context, train_context
from inrcodec.priors.context import context_network
from inrcodec.priors.context_file import FACTS, pack_contexts, unpack_contexts
from inrcodec.priors.signs import sign_network
from inrcodec.quantize import rate_optimal
from inrcodec.stream import TensorLayout

SAMPLES = Path(__file__).parent.parent / "samples"


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return train_context.shrunk(read_signal(SAMPLES / "coffee.png", max_samples=2**28)).crop((200, 100, 328, 196))


@pytest.fixture(scope="module")
def data(picture: Image.Image) -> train_context.Data:
    return train_context.record([picture], 0)


def trained(data: train_context.Data, steps: int, state: Any = None) -> list[train_context.ContextState]:
    return list(train_context.train(state or train_context.first_state(0), data, data, steps=steps, seed=0))


def test_pictures_become_rgb_of_whole_cells(tmp_path: Path) -> None:
    Image.new("LA", (2060, 140), (200, 7)).save(tmp_path / "gray.png")
    made = train_context.shrunk(read_signal(tmp_path / "gray.png", max_samples=2**28))
    assert (made.mode, made.size) == ("RGB", (512, 32))  # halved to 515 × 35
    assert np.unique(np.asarray(made)).tolist() == [200]


def test_what_is_no_picture_or_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="31 × 40"):
        train_context.shrunk(api.as_signal(np.zeros((40, 31, 3), np.uint8)))
    with pytest.raises(ValueError, match="sound"):
        train_context.shrunk(read_signal(SAMPLES / "guit_harmonics.flac", max_samples=2**28))


def test_the_recorder_sees_the_codes_of_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_context, "KEPT", 1.0)
    monkeypatch.setattr(train_context, "KEPT_QUIET", 1.0)
    codes = np.random.default_rng(0).integers(-3, 4, (3, 4, 4, 3, 2)).astype(np.int32)
    recorder = train_context.Recorder(np.random.default_rng(0))
    LearnedTile(codes, None, recorder, sign_network()).run(0, 7, np.full(3, 7), recorder.code)
    seen = np.concatenate(recorder.symbols)
    assert np.array_equal(np.bincount(seen, minlength=4), np.bincount(split(np.abs(codes.ravel()))[0], minlength=4))
    assert np.concatenate(recorder.features).shape == (codes.size, N_FEATURES)


def test_the_recorder_tells_the_two_quantisers_of_dependent_codes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_context, "KEPT", 1.0)
    monkeypatch.setattr(train_context, "KEPT_QUIET", 1.0)
    weights = np.random.default_rng(0).laplace(0, 2, (3, 4, 4, 3, 2)).astype(np.float32)
    codes = rate_optimal(weights, TensorLayout("heads", "cosine", 3, (4, 4), (3, 2), dependent=True), 0.1)
    recorder = train_context.Recorder(np.random.default_rng(0))
    tile = LearnedTile(codes.copy(), None, recorder, sign_network(), dependent=True)  # type: ignore[arg-type]
    tile.run(0, 7, np.full(3, 7), recorder.code)
    seen: list[tuple[int, int]] = []

    def code(contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        if len(contexts) and contexts[0] < 2 * N_LEARNED_CLASSES:
            seen.extend(zip((contexts >= N_LEARNED_CLASSES).tolist(), split(values)[0].tolist(), strict=True))
        return values

    LearnedTile(codes, None, context_network(), sign_network(), dependent=True).run(0, 7, np.full(3, 7), code)
    odd, symbols = np.concatenate(recorder.odd), np.concatenate(recorder.symbols)
    assert 0.1 < odd.mean() < 0.9
    assert sorted(seen) == sorted(zip(odd.astype(bool).tolist(), symbols.tolist(), strict=True))


def test_training_learns_and_rounding_keeps_what_it_learned(
    data: train_context.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_context, "BATCH", 1024)
    counts = np.bincount(data[2].numpy(), weights=data[4].numpy())
    share = counts[counts > 0] / counts.sum()
    state = trained(data, 300)[-1]
    assert state.cost < 0.6 * -(share @ np.log2(share)), "one table for all codes"
    network, rows = train_context.rounded(state)
    features, places, symbols, odd, weights = (d.numpy() for d in data)
    half, place = places % 2, places // 2
    row, colour = place // 3, place % 3
    tables, cost = AdaptiveTables(rows)._tables(np.arange(len(rows))) + 1, np.zeros(len(places))
    for c, h in np.unique(np.stack([colour, half]), axis=1).T.tolist():
        own = np.flatnonzero((colour == c) & (half == h))
        classes = network.classes(features[own].T[:, :, None].astype(np.float32), row[own] // 16, row[own] % 16, c, h)
        cost[own] = 24 - np.log2(tables[classes[:, 0] + N_LEARNED_CLASSES * odd[own].astype(int), symbols[own]])
    # the last symbol stands for a tail, which the whole network spreads over more symbols
    own = symbols < train_context.SYMBOLS - 1
    assert np.average(cost[own], weights=weights[own]) < state.cost * 1.05


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(
    picture: Image.Image, data: train_context.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_context, "PIECE", 4)
    mark, first = train_context.fingerprint([picture], steps=10, seed=0), train_context.first_state(0)
    whole = trained(data, 10)
    assert [s.step for s in whole] == [4, 8, 10]
    for stopped in whole[:-1]:
        read = train_context.unpack_state(train_context.pack_state(stopped, mark), mark, first)
        last = trained(data, 10, read)[-1]
        assert all(np.array_equal(last.values[name], whole[-1].values[name]) for name in last.values)
        assert (last.cost, last.n_codes) == (whole[-1].cost, len(data[1]))


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(picture: Image.Image) -> None:
    mark, first = train_context.fingerprint([picture], steps=10, seed=0), train_context.first_state(0)
    data = train_context.pack_state(first, mark)
    for other in ({"steps": 11, "seed": 0}, {"steps": 10, "seed": 1}):
        with pytest.raises(ValueError, match="other pictures or settings"):
            train_context.unpack_state(data, train_context.fingerprint([picture], **other), first)
    for bad in (b"", data[:100], b"x" + data[1:], data[:-30]):
        with pytest.raises(FormatError):
            train_context.unpack_state(bad, mark, first)


def test_the_released_file_is_read_and_known(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(inrcodec.__file__).parent / "priors" / context.FILE
    read = unpack_contexts(Path(path).read_bytes())
    assert read.sha256 == context.SHA256
    assert np.array_equal(read.rows, context.starting_rows())
    assert run_command(command, ["prior", "info", str(path)]) == 0
    assert f"table set {TABLE_SETS['range']}" in capsys.readouterr().out


def released() -> dict[str, np.ndarray]:
    return context.arrays(context.context_network(), context.starting_rows().astype(np.uint16))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("first", lambda a: a[:, 1:], "first of int32"),
        ("rows", lambda a: a.astype(np.int32), "rows of int32"),
        ("rows", lambda a: 0 * a, "out of range"),
        ("shift", lambda a: a - 100, "out of range"),
        ("place", lambda a: a[0], "place of int32"),
        ("second", lambda a: a * 2**12, "may not be exact"),
        ("second", lambda a: a[0], "second of 1 axes"),
        ("last", lambda a: a.astype(object), "damaged"),  # a pickle
        ("limit", None, "damaged"),
    ],
)
def test_context_files_that_do_not_fit_are_refused(name: str, change: Any, says: str) -> None:
    saved = released()
    if change is None:
        del saved[name]
    else:
        saved[name] = change(saved[name])
    file = io.BytesIO()
    np.savez_compressed(file, **saved)
    with pytest.raises(FormatError, match=says):
        unpack_contexts(file.getvalue())


def test_truncated_and_inflated_context_files_are_refused() -> None:
    data = pack_contexts(context.context_network(), context.starting_rows().astype(np.uint16), dict.fromkeys(FACTS, 1))
    assert unpack_contexts(data).sha256 == context.SHA256
    for n in range(0, len(data), 997):
        with pytest.raises(FormatError):
            unpack_contexts(data[:n])
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.npy", bytes(2**25))
    with pytest.raises(FormatError, match="limit"):
        unpack_contexts(bomb.getvalue())


OPTIONS = ["prior", "train", "a.png", "--method", "contexts", "--steps", "3", "--device", "cpu", "-o"]


@pytest.fixture
def folder(tmp_path: Path, picture: Image.Image, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    picture.crop((0, 0, 64, 32)).save("a.png")
    return tmp_path


def test_the_command_trains_and_describes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command, [*OPTIONS, "c.npz", "--progress"]) == 0
    said = capsys.readouterr().err
    made = unpack_contexts(Path("c.npz").read_bytes())
    assert "c.npz: record 0/8" in said
    assert f"c.npz: contexts {made.sha256[:16]}…" in said
    assert "of those learned from" in said  # one picture: none is held out
    assert not Path("c.npz.part").exists()
    assert made.rows.shape == (2 * N_LEARNED_CLASSES, N_SYMBOLS)
    assert run_command(command, ["prior", "info", "c.npz", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["sha256"], facts["released"], facts["features"]) == (made.sha256, False, N_FEATURES)
    assert (facts["training"]["pictures"], facts["training"]["steps"], facts["classes"]) == (
        1,
        3,
        2 * N_LEARNED_CLASSES,
    )
    assert run_command(command, ["prior", "info", "c.npz"]) == 0
    assert "by files of encode --prior" in capsys.readouterr().out


def test_an_interrupted_training_says_what_is_kept_and_goes_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_context, "PIECE", 2)
    with interrupted(monkeypatch, train_context, "states", after=1):
        assert run_command(command, [*OPTIONS, "c.npz"]) == 130
    assert "c.npz.part keeps 2 of 3 steps" in capsys.readouterr().err
    assert run_command(command, [*OPTIONS, "c.npz"]) == 0
    assert "goes on at step 2 of 3" in capsys.readouterr().err
    assert run_command(command, [*OPTIONS, "d.npz"]) == 0
    assert unpack_contexts(Path("c.npz").read_bytes()).sha256 == unpack_contexts(Path("d.npz").read_bytes()).sha256


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--method contexts --width 8", "--width and --method contexts"),
        ("--method contexts --fit-steps 8", "--fit-steps and --method contexts"),
        ("--steps 8", "--steps and --method maml"),
        ("--method contexts --device cuda:99", "cuda:99"),
    ],
)
def test_options_of_the_other_kind_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], options: str, says: str
) -> None:
    assert run_command(command, ["prior", "train", "a.png", "-o", "c.npz", *options.split()]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not Path("c.npz").exists()
