"""Claims about training a context network: what it sees, that it learns, goes on, and says what it made."""

from __future__ import annotations

import io
import itertools
import json
import re
import signal
import zipfile
from pathlib import Path
from types import ModuleType
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
from inrcodec.fields.base import Progress
from inrcodec.priors import context, record_file, recording, train_context
from inrcodec.priors.context import context_network
from inrcodec.priors.context_file import FACTS, pack_contexts, unpack_contexts
from inrcodec.priors.signs import sign_network
from inrcodec.quantize import rate_optimal
from inrcodec.stream import TensorLayout

SAMPLES = Path(__file__).parent.parent / "samples"


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return recording.shrunk(read_signal(SAMPLES / "coffee.png", max_samples=2**28)).crop((200, 100, 328, 196))


@pytest.fixture(scope="module")
def data(picture: Image.Image) -> train_context.Data:
    records = [recording.make_record(coding) for coding in recording.codings([picture], 0)]
    data, held = train_context.training_data(records, "cpu")
    assert held is data  # of fewer than six pictures none is held out
    return data


def trained(data: train_context.Data, steps: int, state: Any = None) -> list[train_context.ContextState]:
    return list(train_context.train(state or train_context.first_state(0), data, data, steps=steps, seed=0))


def fingerprint(picture: Image.Image, *, steps: int, seed: int) -> str:
    return train_context.fingerprint(recording.mark_of([picture], seed), steps=steps)


def test_pictures_become_rgb_of_whole_cells(tmp_path: Path) -> None:
    Image.new("LA", (2060, 140), (200, 7)).save(tmp_path / "gray.png")
    made = recording.shrunk(read_signal(tmp_path / "gray.png", max_samples=2**28))
    assert (made.mode, made.size) == ("RGB", (512, 32))  # halved to 515 × 35
    assert np.unique(np.asarray(made)).tolist() == [200]


def test_what_is_no_picture_or_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="31 × 40"):
        recording.shrunk(api.as_signal(np.zeros((40, 31, 3), np.uint8)))
    with pytest.raises(ValueError, match="sound"):
        recording.shrunk(read_signal(SAMPLES / "guit_harmonics.flac", max_samples=2**28))


def test_the_recorder_sees_the_codes_of_the_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "KEPT", 1.0)
    monkeypatch.setattr(recording, "KEPT_QUIET", 1.0)
    codes = np.random.default_rng(0).integers(-3, 4, (3, 4, 4, 3, 2)).astype(np.int32)
    recorder = recording.Recorder(np.random.default_rng(0))
    LearnedTile(codes, None, recorder, sign_network()).run(0, 7, np.full(3, 7), recorder.code)
    made = recorder.record()
    seen = made.symbols
    assert np.array_equal(np.bincount(seen, minlength=4), np.bincount(split(np.abs(codes.ravel()))[0], minlength=4))
    assert made.features.shape == (codes.size, N_FEATURES)


def test_the_recorder_tells_the_two_quantisers_of_dependent_codes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "KEPT", 1.0)
    monkeypatch.setattr(recording, "KEPT_QUIET", 1.0)
    weights = np.random.default_rng(0).laplace(0, 2, (3, 4, 4, 3, 2)).astype(np.float32)
    codes = rate_optimal(weights, TensorLayout("heads", "cosine", 3, (4, 4), (3, 2), dependent=True), 0.1)
    recorder = recording.Recorder(np.random.default_rng(0))
    tile = LearnedTile(codes.copy(), None, recorder, sign_network(), dependent=True)  # type: ignore[arg-type]
    tile.run(0, 7, np.full(3, 7), recorder.code)
    seen: list[tuple[int, int]] = []

    def code(contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
        if len(contexts) and contexts[0] < 2 * N_LEARNED_CLASSES:
            seen.extend(zip((contexts >= N_LEARNED_CLASSES).tolist(), split(values)[0].tolist(), strict=True))
        return values

    LearnedTile(codes, None, context_network(), sign_network(), dependent=True).run(0, 7, np.full(3, 7), code)
    odd, symbols = recorder.record().odd, recorder.record().symbols
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
    own = symbols < recording.SYMBOLS - 1
    assert np.average(cost[own], weights=weights[own]) < state.cost * 1.05


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(
    picture: Image.Image, data: train_context.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_context, "PIECE", 4)
    mark, first = fingerprint(picture, steps=10, seed=0), train_context.first_state(0)
    whole = trained(data, 10)
    assert [s.step for s in whole] == [4, 8, 10]
    for stopped in whole[:-1]:
        read = train_context.unpack_state(train_context.pack_state(stopped, mark), mark, first)
        last = trained(data, 10, read)[-1]
        assert all(np.array_equal(last.values[name], whole[-1].values[name]) for name in last.values)
        assert (last.cost, last.n_codes) == (whole[-1].cost, len(data[1]))


def test_ctrl_c_between_two_steps_gives_the_state_at_that_step(data: train_context.Data) -> None:
    def interrupt(step: Progress) -> None:
        if step.step == 10:
            raise KeyboardInterrupt

    (whole,) = trained(data, 15)
    going = train_context.train(train_context.first_state(0), data, data, steps=15, seed=0, on_step=interrupt)
    state = next(going)
    with pytest.raises(KeyboardInterrupt):
        next(going)
    assert (state.step, state.n_codes) == (10, len(data[1]))
    (last,) = trained(data, 15, state)
    assert all(np.array_equal(last.values[name], whole.values[name]) for name in last.values)
    assert last.cost == whole.cost


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(picture: Image.Image) -> None:
    mark, first = fingerprint(picture, steps=10, seed=0), train_context.first_state(0)
    data = train_context.pack_state(first, mark)
    for other in ({"steps": 11, "seed": 0}, {"steps": 10, "seed": 1}):
        with pytest.raises(ValueError, match="other pictures or settings"):
            train_context.unpack_state(data, fingerprint(picture, **other), first)
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
    with interrupted(monkeypatch, train_context, "train", after=1):
        assert run_command(command, [*OPTIONS, "c.npz"]) == 130
    assert "c.npz.part keeps 2 of 3 steps" in capsys.readouterr().err
    assert run_command(command, [*OPTIONS, "c.npz"]) == 0
    assert "goes on at step 2 of 3" in capsys.readouterr().err
    assert run_command(command, [*OPTIONS, "d.npz"]) == 0
    assert unpack_contexts(Path("c.npz").read_bytes()).sha256 == unpack_contexts(Path("d.npz").read_bytes()).sha256


def interrupting(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, *, at: int, twice: bool = False
) -> None:
    """Ctrl-C during call `at` of a function, which goes on where the signal is put off."""
    whole, calls = getattr(module, name), itertools.count(1)

    def stopping(*args: object) -> object:
        if next(calls) == at:
            for _ in range(1 + twice):
                signal.raise_signal(signal.SIGINT)
        return whole(*args)

    monkeypatch.setattr(module, name, stopping)


LONGER = [*(part if part != "3" else "25" for part in OPTIONS), "c.npz"]


def test_ctrl_c_in_the_middle_of_a_step_keeps_every_step(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(command, LONGER) == 0
    whole = unpack_contexts(Path("c.npz").read_bytes()).sha256
    with monkeypatch.context() as patched:
        interrupting(patched, train_context, "bits", at=12)
        assert run_command(command, [*LONGER, "-f", "-v"]) == 130
    said = capsys.readouterr().err
    assert "c.npz: step 20 of 25, not measured yet\n" in said
    assert "c.npz.part keeps 20 of 25 steps; the same command, without -f, goes on from there" in said
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert Path("c.npz").exists(), "as -f allowed it to be written, so may what goes on"
    with monkeypatch.context() as patched:
        patched.setattr(record_file, "make_record", None)  # nothing is recorded again
        assert run_command(command, [*LONGER, "-v"]) == 0
    said = capsys.readouterr().err
    assert "c.npz.part: goes on at step 20 of 25" in said
    assert "c.npz.codes.part: 8 of 8 records\n" in said
    assert re.search(r"c.npz: [\d,]+ codes recorded of 1 pictures", said)
    assert re.search(r"c.npz: step 25 of 25, \d\.\d{4} bits a code", said)
    assert unpack_contexts(Path("c.npz").read_bytes()).sha256 == whole
    assert sorted(p.name for p in folder.iterdir()) == ["a.png", "c.npz"]


def test_a_second_ctrl_c_is_obeyed_at_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupting(monkeypatch, train_context, "bits", at=12, twice=True)
    assert run_command(command, LONGER) == 130
    assert "steps" not in capsys.readouterr().err
    assert sorted(p.name for p in folder.iterdir()) == ["a.png", "c.npz.codes.part"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_was_recorded_before_ctrl_c_is_not_recorded_again(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(command, [*OPTIONS, "d.npz"]) == 0
    for at in (1, 4):
        with monkeypatch.context() as patched:
            interrupting(patched, record_file, "make_record", at=at)
            assert run_command(command, [*OPTIONS, "c.npz"]) == 130
    assert "c.npz.codes.part keeps 3 of 8 records; the same command goes on from there" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        interrupting(patched, record_file, "make_record", at=5 + 1)  # five are left
        assert run_command(command, [*OPTIONS, "c.npz"]) == 0
    assert "c.npz.codes.part: 3 of 8 records\n" in capsys.readouterr().err
    assert Path("c.npz").read_bytes() == Path("d.npz").read_bytes()


def test_damage_to_what_was_recorded_is_recorded_anew_and_another_trainings_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted(monkeypatch, train_context, "train", after=0):
        assert run_command(command, [*OPTIONS, "c.npz"]) == 130
    part = Path("c.npz.codes.part")
    data = part.read_bytes()
    part.write_bytes(data[:-9] + bytes(9))
    assert run_command(command, [*OPTIONS, "d.npz"]) == 0
    assert run_command(command, [*OPTIONS, "c.npz"]) == 0
    assert "c.npz.codes.part: 7 of 8 records, then damage: goes on from there\n" in capsys.readouterr().err
    assert Path("c.npz").read_bytes() == Path("d.npz").read_bytes()
    for other, says in ((data, "of other pictures, with another seed"), (b"GIF89a" * 9, "no file of what")):
        part.write_bytes(other)
        assert run_command(command, [*OPTIONS, "c.npz", "-f", "--seed", "1"]) == 0, "starts anew"
        part.write_bytes(other)
        Path("c.npz").unlink()
        assert run_command(command, [*OPTIONS, "c.npz", "--seed", "1"]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("inrcodec: c.npz.codes.part: ") and says in error and error.endswith("; -f starts anew")
        assert part.read_bytes() == other


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--method contexts --width 8", "--width and --method contexts"),
        ("--method contexts --fit-steps 8", "--fit-steps and --method contexts"),
        ("--steps 8", "--steps and --method maml"),
        ("-j 2", "-j and --method maml"),
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
