"""Pictures coded under contexts that the user trained: --prior contexts.npz."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from inrcodec.cli.failures import run_command
from inrcodec.cli.main import inrcodec as command
from inrcodec.formats.header import pack_header, unpack_header
from PIL import Image
from tiny_files import fuzz
from tiny_headers import CONTEXTS, SOUND, header_values, packed

import inrcodec
from inrcodec import api, codec
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
    assert (facts["prior"], facts["body"]) == (own, "cosine")
    assert run_command(command, ["info", "a.inr"]) == 0
    assert f"{own}, contexts of the codes" in capsys.readouterr().out
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


def test_every_effort_uses_them(folder: Path) -> None:
    """What stages try is coded, and decoded, as the first candidate is."""
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


def test_zstd_has_no_contexts_and_its_files_need_none(folder: Path) -> None:
    data = inrcodec.encode("a.png", prior="c.npz")  # the range coder's is larger: these contexts are bad ones
    header = api.open(data).header
    assert (header.coder, header.field.prior) == ("zstd", 0)
    inrcodec.open(data).verify()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--arch", "ensemble"], "it is of contexts"),
        (["--body", "siren"], "it is of contexts"),
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
    with pytest.raises(ValueError, match="1 axes; the prior is of contexts"):
        inrcodec.encode(tone, sample_rate_hz=8000, prior=fuzz.CONTEXTS)
    with pytest.raises(ValueError, match="3 axes; the prior is of contexts"):
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
        codec.Decoder(header, max_samples=2**20, prior=impostor)


def test_an_array_of_two_axes_may_have_them() -> None:
    plane = np.cumsum(np.random.default_rng(0).normal(size=(50, 40)), 0)
    data = inrcodec.encode(plane, prior=fuzz.CONTEXTS, entropy="range")
    assert unpack_header(pack_header(api.open(data).header)).field.prior == fuzz.CONTEXTS.id
    with pytest.raises(UnsupportedError, match="needs prior"):
        api.open(data).decode()
    assert np.abs(api.open(data, prior=fuzz.CONTEXTS).decode() - plane).mean() < 0.2 * np.abs(plane).mean()
