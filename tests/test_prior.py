"""Claims about priors: their files, and what is encoded with them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from inrcodec.cli.failures import run_command
from inrcodec.cli.main import inrcodec as command
from inrcodec.formats.files import write_signal
from inrcodec.formats.prior_file import MAGIC, pack_prior, unpack_prior

import inrcodec
from inrcodec import api
from inrcodec.errors import FormatError, InrError, UnsupportedError
from inrcodec.fields.tuning import TUNINGS
from inrcodec.prior_files import read_prior
from inrcodec.priors import context
from inrcodec.priors.prior import Prior, biases, largest, survivors


def tiny_prior(
    *, seed: int = 0, relative: bool = True, method: str = "maml", sparsity: float = 0.5, learned: int = 0
) -> Prior:
    rng = np.random.default_rng(seed)
    n = Prior.count(fin=2, width=6, depth=1, fout=3, features=0)
    sizes = ((2, 6), (6, 6), (6, 3))
    mask = biases(sizes) | (rng.random(n) >= sparsity)
    return Prior(
        body="siren", fin=2, width=6, depth=1, fout=3, omega=10, kind="image", patch=(8, 8), method=method,
        start=np.where(mask, rng.normal(0, 0.2, n), 0).astype(np.float32), mask=mask, relative=relative,
        schedule=(40, 30) if method in ("maml-imp", "maml-one-shot") else (), steps=20, rate=5e-3,
        facts=(("signals", 3), ("seed", seed)),
        rates=np.where(mask, rng.normal(0, 0.1, (learned, n)), 0).astype(np.float32) if learned else None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    y, x = np.mgrid[0:20, 0:17] / 17
    return (255 * np.clip(np.stack([x, y, 0.5 + 0.4 * np.sin(5 * x + 3 * y)], -1), 0, 1)).astype(np.uint8)


@pytest.mark.parametrize(("method", "learned"), [("maml", 0), ("maml-imp", 0), ("maml", 3)])
def test_a_prior_file_holds_the_whole_prior(method: str, learned: int) -> None:
    prior = tiny_prior(method=method, relative=method == "maml", learned=learned)
    read = unpack_prior(pack_prior(prior))
    for name in Prior.__dataclass_fields__:
        if name not in ("start", "mask", "rates"):
            assert getattr(read, name) == getattr(prior, name), name
    for name in ("start", "mask", "rates"):
        assert np.array_equal(getattr(read, name), getattr(prior, name)), name
    assert read.id == prior.id


def test_the_id_changes_with_what_decoding_depends_on_and_with_nothing_else() -> None:
    prior = tiny_prior()
    moved = prior.start.copy()
    moved[np.flatnonzero(prior.mask)[0]] += np.float32(1e-3)
    assert len({prior.id, replace(prior, start=moved).id, replace(prior, relative=False).id}) == 3
    assert replace(prior, steps=7, facts=(), rates=np.ones((1, len(prior.mask)), np.float32)).id == prior.id


@pytest.mark.parametrize("learned", [0, 1])
def test_every_truncation_and_bit_flip_of_a_prior_file_is_an_error(learned: int) -> None:
    data = pack_prior(tiny_prior(learned=learned))
    for n in range(len(data)):
        with pytest.raises(FormatError):
            unpack_prior(data[:n])
    for at in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[at] ^= 1 << bit
            with pytest.raises((FormatError, UnsupportedError)):
                unpack_prior(bytes(damaged))
    with pytest.raises(FormatError, match="after the end"):
        unpack_prior(data + b"x")


def test_a_prior_of_weights_that_are_not_finite_is_refused() -> None:
    prior = tiny_prior()
    start = prior.start.copy()
    start[np.flatnonzero(prior.mask)[0]] = np.nan
    with pytest.raises(ValueError, match="finite"):
        replace(prior, start=start)


@pytest.mark.parametrize("rates", [np.full((1, 75), np.inf), np.zeros((17, 75)), np.zeros((0, 75)), np.zeros((2, 7))])
def test_rates_that_cannot_be_are_refused(rates: np.ndarray) -> None:
    with pytest.raises(ValueError, match="rates"):
        replace(tiny_prior(), rates=rates.astype(np.float32))


def test_rates_of_more_steps_than_allowed_in_a_file_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack_prior(tiny_prior(learned=3))
    monkeypatch.setattr("inrcodec.formats.prior_file.MAX_LEARNED", 2)
    with pytest.raises(FormatError):
        unpack_prior(data)


def test_rates_of_too_many_numbers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = pack_prior(tiny_prior(learned=3))
    for module in ("inrcodec.formats.prior_file", "inrcodec.priors.prior"):
        monkeypatch.setattr(f"{module}.MAX_RATES", 3 * 75 - 1)
    with pytest.raises(FormatError, match="limit 224"):
        unpack_prior(data)
    with pytest.raises(ValueError, match="limit 224"):
        tiny_prior(learned=3)


def test_a_mask_that_prunes_biases_is_refused() -> None:
    prior = tiny_prior()
    with pytest.raises(ValueError, match="biases"):
        replace(prior, mask=np.zeros_like(prior.mask))


def test_pruning_leaves_as_many_weights_as_the_paper_prints() -> None:
    # of Meta-SparseINR's 197,888, all 20 rounds; the paper (arXiv 2110.14678) prints 26561, 17000, 10880, 8704, …
    wanted = [197888, 158311, 126649, 101320, 81056, 64845, 51876, 41501, 33201, 26561, 21249, 17000, 13600, 10880,
              8704, 6964, 5572, 4458, 3567, 2854, 2284]  # fmt: skip
    assert [survivors(197888, k) for k in range(21)] == wanted


def test_largest_takes_exactly_as_many_as_asked_and_only_where_allowed() -> None:
    scores = np.array([[3.0, 1, 2, 2, 0], [0, 0, 0, 0, 9]])
    among = np.array([[True, True, True, True, False], [True, True, False, True, True]])
    chosen = largest(scores, among, 2)
    assert chosen.tolist() == [[True, False, True, False, False], [True, False, False, False, True]]


@pytest.mark.parametrize("method", ["maml", "maml-imp", "maml-one-shot"])
def test_encoding_with_a_prior_and_decoding_with_it_gives_the_measured_picture(
    method: str, picture: np.ndarray
) -> None:
    prior = tiny_prior(method=method, relative=method == "maml", sparsity=0.5 if method == "maml" else 0.0)
    made = api.encode_signal(api.as_signal(picture), api.EncodeSettings(arch="ensemble", prior=prior, quality=90))
    with api.open(made.data, prior=prior) as file:
        assert file.header.cells == (2, 2)  # cells nearest to the patch of 8 × 8
        error = np.mean((file.decode().astype(float) - picture) ** 2)
        assert -10 * np.log10(error / 255**2) == pytest.approx(made.quality_db, abs=2e-3)
        file.verify()
        assert np.array_equal(file.decode(region=(3, 4, 5, 6)), file.decode()[4:10, 3:8])


def test_pruned_places_stay_zero_and_per_signal_masks_keep_what_they_say(picture: np.ndarray) -> None:
    prior = tiny_prior(method="maml-imp", relative=False, sparsity=0.0)
    data = inrcodec.encode(picture, arch="ensemble", prior=prior, quality=95)
    decoder = api.open(data, prior=prior)._decoder(2**20)
    payloads = [api.open(data)._file.payload(i) for i in range(decoder.header.n_chunks)]
    weights = decoder.weights(decoder.codes(payloads))[0][0].reshape(prior.n_parameters, -1)
    counts = (weights[~biases(prior.sizes)] != 0).sum(axis=0)
    assert (counts <= 30).all()  # the last of the schedule; small ones may round to 0
    assert counts.max() > 20


def test_a_file_without_its_prior_names_it_and_another_one_is_refused(picture: np.ndarray) -> None:
    prior, other = tiny_prior(), tiny_prior(seed=1)
    data = inrcodec.encode(picture, arch="ensemble", prior=prior, iterations=1)
    with pytest.raises(UnsupportedError, match=f"needs prior {prior.id:016x} .*width 6"):
        api.open(data).decode()
    with pytest.raises(UnsupportedError, match=f"not {other.id:016x}"):
        api.open(data, prior=other).decode()
    assert api.open(data).info()["prior"] == f"{prior.id:016x}"


@pytest.mark.parametrize("option", [{"width": 7}, {"depth": 2}, {"body": "relu"}])
def test_options_that_contradict_the_prior_are_refused(option: dict[str, object], picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the prior has"):
        inrcodec.encode(picture, arch="ensemble", prior=tiny_prior(), **option)


def test_a_prior_for_other_signals_is_refused(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="the prior is for"):
        inrcodec.encode(picture[..., 0], arch="ensemble", prior=tiny_prior())


def test_every_truncation_and_many_bit_flips_of_such_a_file_are_errors(picture: np.ndarray) -> None:
    prior = tiny_prior()
    data = inrcodec.encode(picture[:8, :8], arch="ensemble", prior=prior, iterations=1, quality=10, entropy="zstd")
    for n in range(len(data)):
        with pytest.raises(FormatError):
            api.open(data[:n], prior=prior).verify()
    for at in range(0, len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << (at % 8)
        with pytest.raises(InrError):
            api.open(bytes(damaged), prior=prior).verify()


def test_the_command_line_needs_the_prior_that_encoded(
    tmp_path: Path, picture: np.ndarray, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INRCODEC_PRIORS", raising=False)
    write_signal("a.png", picture, api.as_signal(picture).meta, {}, overwrite=False)
    prior, other = tiny_prior(), tiny_prior(seed=1)
    Path("p.inp").write_bytes(pack_prior(prior))
    Path("q.inp").write_bytes(pack_prior(other))
    assert run_command(command, ["encode", "a.png", "--prior", "p.inp", "--quiet"]) == 0
    assert run_command(command, ["info", "a.inr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prior"] == f"{prior.id:016x}"
    assert run_command(command, ["decode", "a.inr", "-o", "b.png"]) == 4
    assert f"needs prior {prior.id:016x}" in capsys.readouterr().err
    assert run_command(command, ["verify", "a.inr", "--prior", "q.inp"]) == 4
    assert f"not {other.id:016x}" in capsys.readouterr().err
    assert run_command(command, ["decode", "a.inr", "-o", "b.png", "--prior", "p.inp"]) == 0
    assert run_command(command, ["verify", "a.inr", "--prior", "p.inp"]) == 0
    assert run_command(command, ["compare", "a.png", "a.inr", "--prior", "p.inp"]) == 0
    monkeypatch.setenv("INRCODEC_PRIORS", str(tmp_path))
    Path("a folder.inp").mkdir()  # what stands beside priors is passed over
    assert run_command(command, ["verify", "a.inr"]) == 0
    Path("p.inp").rename("p.npz")  # known by its first bytes
    assert run_command(command, ["verify", "a.inr"]) == 0
    Path("p.npz").rename("p.inp")
    capsys.readouterr()
    assert run_command(command, ["encode", "a.png", "--prior", "a.png", "-f"]) == 2
    assert "not a prior file" in capsys.readouterr().err
    assert run_command(command, ["encode", "a.png", "--prior", "p.inp", "--prior", "none", "-f", "--quiet"]) == 0
    assert api.open("a.inr").header.field.prior == 0


def test_a_prior_is_read_from_its_path_and_says_which(tmp_path: Path) -> None:
    path = tmp_path / "x.inp"
    path.write_bytes(MAGIC)
    with pytest.raises(FormatError, match="prior file: truncated"):
        read_prior(path)


def test_in_python_a_prior_may_be_a_path_and_implies_ensembles(tmp_path: Path, picture: np.ndarray) -> None:
    prior, path = tiny_prior(), tmp_path / "p.inp"
    path.write_bytes(pack_prior(prior))
    data = inrcodec.encode(picture, prior=path, iterations=2)
    assert data == inrcodec.encode(picture, prior=prior, arch="ensemble", iterations=2)
    file = api.open(data, prior=str(path))
    assert file.header.field.prior == prior.id
    assert file.decode().shape == picture.shape


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("-o -", "has to be a file"),
        ("-o p.inp --rounds 65", "--rounds 65: wanted 1 to 64"),
        ("-o p.inp --inner-rate 0", "--inner-rate 0"),
        ("-o p.inp --sparsity 1", "--sparsity 1"),
        ("-o p.inp --patch 99", "smaller than the patch"),
    ],
)
def test_trainings_that_cannot_be_are_refused_before_they_begin(
    tmp_path: Path, picture: np.ndarray, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    *, options: str, says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_signal("a.png", picture, api.as_signal(picture).meta, {}, overwrite=False)
    assert run_command(command, ["prior", "train", "a.png", "--patch", "8", *options.split()]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("p.inp*"))


def test_info_without_a_file_lists_every_prior_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(command, ["prior", "info", "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    folder = Path(inrcodec.__file__).parent / "priors"
    assert {own["file"]: own["bytes"] for own in listed} == {p.name: p.stat().st_size for p in folder.glob("*.npz")}
    assert all(len(own["sha256"]) == 64 and own["parameters"] > 1000 for own in listed)
    for own in listed:
        if own["file"].startswith("synthesis_"):
            with np.load(folder / own["file"]) as stored:
                sizes = [stored[k].size for k in stored.files if k not in ("block", "shifts", "signed")]
            assert own["parameters"] == sum(sizes)
    assert sum(own["bytes"] for own in listed) <= 2**21
    assert run_command(command, ["prior", "info"]) == 0
    text = capsys.readouterr().out
    assert all(own["sha256"][:16] in text for own in listed)
    for tune, tuning in TUNINGS.items():
        assert f"synthesis network {tuning.synthesis} of the cosine field, --tune {tune}\n" in text


def test_info_says_the_same_of_a_file_and_of_the_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = Path(inrcodec.__file__).parent / "priors" / context.FILE
    shutil.copy(own, context.FILE)
    Path("p.inp").write_bytes(pack_prior(tiny_prior()))
    assert run_command(command, ["prior", "info", "--json"]) == 0
    listed = {facts["file"]: facts for facts in map(json.loads, capsys.readouterr().out.splitlines())}
    assert run_command(command, ["prior", "info", context.FILE, "p.inp", "--json"]) == 0
    contexts, start = map(json.loads, capsys.readouterr().out.splitlines())
    assert contexts == listed[context.FILE]
    assert {"file", "bytes", "id", "sha256", "released", "kind", "purpose", "parameters"} <= set.intersection(
        *map(set, [*listed.values(), start])
    )
    assert (contexts["released"], contexts["id"], start["released"]) == (True, None, False)
    assert start["sha256"].startswith(start["id"])
    assert run_command(command, ["prior", "info", context.FILE]) == 0
    assert f"{contexts['parameters']:,} numbers in {own.stat().st_size:,} bytes" in capsys.readouterr().out
