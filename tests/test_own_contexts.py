"""Pictures coded under contexts that the user trained: --prior contexts.npz."""

from __future__ import annotations

import json
import os
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Never

import numpy as np
import pytest
from inrcodec.cli.failures import run_command
from inrcodec.cli.main import inrcodec as command
from inrcodec.formats.header import pack_header, unpack_header
from PIL import Image
from tiny_files import fuzz
from tiny_headers import CONTEXTS, SOUND, header_values, packed

import inrcodec
from inrcodec import api
from inrcodec.decoder import Decoder
from inrcodec.entropy import TABLE_SETS
from inrcodec.errors import FormatError, UnsupportedError
from inrcodec.priors import context
from inrcodec.priors.context_file import FACTS, pack_contexts

SAMPLES = Path(__file__).parent.parent / "samples"
OWN = pack_contexts(fuzz.CONTEXTS.network, fuzz.CONTEXTS.rows.astype(np.uint16), dict.fromkeys(FACTS, 1))
RELEASED = Path(context.__file__).with_name(context.FILE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INRCODEC_PRIORS", raising=False)
    Image.open(SAMPLES / "coffee.png").convert("RGB").crop((200, 100, 296, 164)).save("a.png")
    Path("c.npz").write_bytes(OWN)
    return tmp_path


def test_a_file_names_them_and_decodes_with_them_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = f"{fuzz.CONTEXTS.id:016x}"
    assert run_command(command, ["encode", "a.png", "--prior", "c.npz", "--entropy", "range", "--quiet"]) == 0
    assert run_command(command, ["info", "a.inr", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["prior"], facts["table_set"], facts["body"]) == (own, TABLE_SETS["range"], "cosine")
    assert run_command(command, ["info", "a.inr"]) == 0
    said = capsys.readouterr().out
    assert f"{own}, contexts of the codes" in said
    assert f"  range, table set {TABLE_SETS['range']}, " in said
    assert run_command(command, ["decode", "a.inr", "-o", "b.png"]) == 4
    assert f"needs prior {own} (contexts);" in capsys.readouterr().err
    assert run_command(command, ["decode", "a.inr", "-o", "b.png", "--prior", str(RELEASED)]) == 4
    assert f"needs prior {own} (contexts), not the released contexts;" in capsys.readouterr().err
    assert run_command(command, ["decode", "a.inr", "-o", "b.png", "--prior", "c.npz"]) == 0
    assert run_command(command, ["verify", "a.inr", "--prior", "c.npz"]) == 0
    assert run_command(command, ["compare", "a.png", "a.inr", "--prior", "c.npz"]) == 0


def test_they_are_found_among_other_arrays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command(command, ["encode", "a.png", "--prior", "c.npz", "--entropy", "range", "--quiet"]) == 0
    monkeypatch.setenv("INRCODEC_PRIORS", str(folder))
    np.savez("b.npz", a=np.zeros(3))
    Path("a.npz").write_bytes(OWN[:99])
    assert run_command(command, ["verify", "a.inr"]) == 0
    Path("c.npz").unlink()
    assert run_command(command, ["verify", "a.inr"]) == 4


@pytest.mark.parametrize("name", ["zz.inp", "zz.contexts", "zz"])
def test_they_are_found_under_any_suffix(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert run_command(command, ["encode", "a.png", "--prior", "c.npz", "--entropy", "range", "--quiet"]) == 0
    Path("c.npz").rename(name)
    monkeypatch.setenv("INRCODEC_PRIORS", str(folder))
    assert run_command(command, ["verify", "a.inr"]) == 0


def test_what_cannot_be_looked_at_does_not_end_the_search(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_command(command, ["encode", "a.png", "--prior", "c.npz", "--entropy", "range", "--quiet"]) == 0
    Path("c.npz").rename("z.npz")  # the last one that is looked at
    Path("a.npz").symlink_to("a.npz")
    Path("b.npz").mkdir()
    os.mkfifo("c.npz")
    folders = [folder / "a.png", "/proc/self", folder / "nowhere", folder]  # a file, odd entries, nothing, and it
    monkeypatch.setenv("INRCODEC_PRIORS", os.pathsep.join(map(str, folders)))
    assert run_command(command, ["verify", "a.inr"]) == 0


def test_every_effort_uses_them_and_nothing_asks_for_the_released_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stages try is chosen, priced, coded and decoded as the first candidate is."""

    def refuse(*_: object) -> Never:
        raise AssertionError("the released contexts")

    monkeypatch.setattr("inrcodec.priors.context._load", refuse)
    monkeypatch.setattr("inrcodec.priors.networks.context_network", refuse)
    for effort in (1, 5, 9):
        data = inrcodec.encode("a.png", prior="c.npz", effort=effort, entropy="range")
        file = api.open(data, prior=fuzz.CONTEXTS)
        assert file.header.field.prior == fuzz.CONTEXTS.id
        file.verify()


def test_the_same_codes_take_other_bytes(folder: Path) -> None:
    """Contexts decide what codes cost and, but for plain rounding, which are chosen: not what they stand for."""
    plain, own = inrcodec.encode("a.png", entropy="range"), inrcodec.encode("a.png", entropy="range", prior="c.npz")
    assert plain != own
    difference = inrcodec.open(plain).decode().astype(float) - api.open(own, prior="c.npz").decode()
    assert np.sqrt(np.mean(difference**2)) < 8


def test_the_released_contexts_are_not_named(folder: Path) -> None:
    assert inrcodec.encode("a.png", prior=RELEASED) == inrcodec.encode("a.png")


def test_zstd_has_no_contexts_and_its_files_need_none(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = inrcodec.encode("a.png", prior="c.npz")  # the range coder's is larger: these contexts are bad ones
    header = api.open(data).header
    assert (header.coder, header.field.prior, header.table_set) == ("zstd", 0, 0)
    Path("z.inr").write_bytes(data)
    assert run_command(command, ["info", "z.inr"]) == 0
    assert "  zstd, 1 level" in capsys.readouterr().out
    inrcodec.open(data).verify()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--arch", "ensemble"], "is of contexts"),
        (["--body", "siren"], "is of contexts"),
        (["--entropy", "zstd"], "zstd has no contexts"),
        (["--search", "s.json"], "--search and --prior"),
    ],
)
def test_what_does_not_go_with_them_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert run_command(command, ["encode", "a.png", "--prior", "c.npz", *options]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not Path("a.inr").exists()


def test_signals_of_other_axes_are_refused() -> None:
    tone, volume = np.zeros((400, 1), np.float32), np.zeros((4, 5, 6))
    with pytest.raises(ValueError, match="sound: the prior is of contexts"):
        inrcodec.encode(tone, sample_rate_hz=8000, prior=fuzz.CONTEXTS)
    with pytest.raises(ValueError, match="array: the prior is of contexts"):
        inrcodec.encode(volume, prior=fuzz.CONTEXTS)
    values = header_values(SOUND)
    values[4] += [0, 5]
    with pytest.raises(FormatError, match="prior 5"):
        unpack_header(packed(values))
    with pytest.raises(FormatError, match="contexts for a coder"):
        unpack_header(pack_header(replace(CONTEXTS, coder="zstd")))


def test_a_prior_of_the_other_kind_with_the_id_asked_for_is_refused(folder: Path) -> None:
    data = inrcodec.encode("a.png", prior="c.npz", entropy="range")
    header = api.open(data).header
    impostor = SimpleNamespace(id=header.field.prior, arch="ensemble", body="siren")
    with pytest.raises(UnsupportedError, match="needs prior"):
        Decoder(header, max_samples=2**20, prior=impostor)


HEADERS = ["{'descr': '<i4', (", "if x:\n  a\n b\n", "{'descr': '<i4', 'fortran_order': False, 'shape': (10**30,), }"]


@pytest.mark.parametrize("header", HEADERS)
def test_arrays_that_numpy_cannot_read_are_damage(folder: Path, header: str) -> None:
    """What is in the way in a folder of priors is passed over, too."""
    with zipfile.ZipFile("x.npz", "w") as archive:
        raw = header.encode() + b"\n"
        archive.writestr("first.npy", b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw)
    for line in (["encode", "a.png", "--prior", "x.npz"], ["prior", "info", "x.npz"]):
        assert run_command(command, line) == 2


def test_a_compression_that_ends_badly_is_damage(folder: Path) -> None:
    with zipfile.ZipFile("x.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("first.npy", bytes(range(256)) * 9)
    data = bytearray(Path("x.npz").read_bytes())
    data[45:60] = bytes(15)
    Path("x.npz").write_bytes(bytes(data))
    assert run_command(command, ["prior", "info", "x.npz"]) == 2


@pytest.mark.parametrize("name", ["place", "bias"])
def test_sums_beyond_what_is_exact_are_refused_of_the_most_negative_number_too(name: str) -> None:
    network = fuzz.CONTEXTS.network
    lowest = np.iinfo(np.int32).min
    place, bias = network.place.copy(), (network.bias[0].copy(), network.bias[1])
    (place if name == "place" else bias[0]).flat[0] = lowest
    with pytest.raises(ValueError, match="may not be exact"):
        replace(network, place=place, bias=bias)


def test_a_prior_may_come_through_a_pipe(folder: Path) -> None:
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_bytes, args=(OWN,))
    writer.start()
    assert run_command(command, ["encode", "a.png", "--prior", "pipe", "--quiet"]) == 0
    writer.join()


def test_pillow_writes_under_them(folder: Path) -> None:
    inrcodec.register_pillow_opener()
    Image.open("a.png").save("b.inr", prior="c.npz", entropy="range")
    assert Path("b.inr").read_bytes() == inrcodec.encode("a.png", prior="c.npz", entropy="range")


def test_an_array_of_two_axes_may_have_them() -> None:
    plane = np.cumsum(np.random.default_rng(0).normal(size=(50, 40)), 0)
    data = inrcodec.encode(plane, prior=fuzz.CONTEXTS, entropy="range")
    assert unpack_header(pack_header(api.open(data).header)).field.prior == fuzz.CONTEXTS.id
    with pytest.raises(UnsupportedError, match="needs prior"):
        api.open(data).decode()
    assert np.abs(api.open(data, prior=fuzz.CONTEXTS).decode() - plane).mean() < 0.2 * np.abs(plane).mean()
