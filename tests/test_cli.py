"""Claims about the command line: the three commands, streams, info, verify, compare, help, and the README's lines."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import ENV, ROOT, SAMPLES, Cli, ok, pixels, process, quality, sample
from inrcodec.cli.decode import decode as decode_command
from inrcodec.cli.encode import encode as encode_command
from inrcodec.cli.main import COMMANDS
from PIL import Image

import inrcodec


def test_the_three_commands_work_as_written(cli: Cli) -> None:
    shutil.copy(SAMPLES / "coffee.png", "photo.png")
    before = Path("photo.png").read_bytes()
    ok(cli("inrcodec encode photo.png -o photo.inr --grid 16".removeprefix("inrcodec ")))
    ok(cli("decode photo.inr --scale 2"))
    shown = ok(cli("info photo.inr")).out
    assert Path("photo.png").read_bytes() == before, "the original must not be replaced"
    assert pixels("photo@2x.png").shape == (800, 1200, 3)
    assert "16 × 16 cells" in shown and "600 × 400" in shown


def test_without_a_file_in_the_way_the_output_has_the_source_s_name(cli: Cli) -> None:
    sample("tiny.png")
    ok(cli("encode tiny.png"))
    Path("tiny.png").unlink()
    ok(cli("decode tiny.inr --scale 2"))
    assert pixels("tiny.png").shape == (80, 96, 3)


@pytest.mark.parametrize("width, height", [(1023, 767), (97, 53), (16, 16)])
def test_a_grid_of_16_divides_any_size_of_at_least_16(cli: Cli, width: int, height: int) -> None:
    y, x = np.mgrid[:height, :width]
    Image.fromarray(((x * 3 + y * 5) % 256).astype(np.uint8)).save("odd.png")
    ok(cli("encode odd.png --grid 16"))
    facts = json.loads(ok(cli("info odd.inr --json")).out)
    assert facts["grid"] == [16, 16]
    ok(cli("decode odd.inr -o back.png"))
    assert pixels("back.png").shape == (height, width)


# --- streams


def test_streams_go_in_and_out(tmp_path: Path) -> None:
    source = (SAMPLES / "tiny.png").read_bytes()
    encoded = process(["encode", "-", "-o", "-"], tmp_path, source)
    assert encoded.returncode == 0
    assert encoded.stdout == inrcodec.encode(SAMPLES / "tiny.png")
    assert process(["info", "-"], tmp_path, encoded.stdout).stdout.startswith(b"-\n")
    for output, head in (("-", b"\x89PNG"), ("png:-", b"\x89PNG"), ("jpg:-", b"\xff\xd8\xff"), ("webp:-", b"RIFF")):
        decoded = process(["decode", "-", "-o", output, "--size", "20x10"], tmp_path, encoded.stdout)
        assert decoded.returncode == 0, decoded.stderr
        assert decoded.stdout.startswith(head)
        with Image.open(io.BytesIO(decoded.stdout)) as image:
            assert image.size == (20, 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/full and SIGPIPE")
def test_a_reader_that_went_away_or_a_full_disk_leaves_no_traceback(tmp_path: Path) -> None:
    inr = tmp_path / "a.inr"
    inr.write_bytes(inrcodec.encode(SAMPLES / "tiny.png"))
    for line, said in (("| true", ""), ("> /dev/full", "inrcodec: no space left on device\n")):
        for command in (f"info {inr}", f"decode {inr} -o -", "-h"):
            script = f"{shlex.quote(sys.executable)} -m inrcodec {command} {line}"
            done = subprocess.run(script, shell=True, capture_output=True, text=True, env=ENV, check=False, timeout=60)
            assert done.stderr.replace("standard output: ", "") in (said, "" if line == "| true" else said)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_ends_with_130_and_keeps_the_old_file(tmp_path: Path, jobs: int) -> None:
    pytest.importorskip("torch")
    for name in ("a", "b"):
        shutil.copy(SAMPLES / "tiny.png", tmp_path / f"{name}.png")
        (tmp_path / f"{name}.inr").write_bytes(b"old")
    options = ["--body", "siren", "--iterations", "10000000", "--device", "cpu", "-f", "-j", str(jobs)]
    # tests may run in the background of a shell, where Ctrl-C is ignored, which children inherit
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from inrcodec.cli.main import main; main()"
    )
    command = [sys.executable, "-c", script, "encode", "a.png", "b.png", *options, "--progress", "-o", "./"]
    running = subprocess.Popen(
        command,
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env=ENV,
        start_new_session=True,
    )
    try:
        assert running.stderr is not None
        if jobs == 1:
            assert b"fit" in running.stderr.readline()
        else:
            time.sleep(4)  # other processes show no progress; any moment will do
        os.killpg(running.pid, signal.SIGINT)  # what a terminal does
        _, rest = running.communicate(timeout=60)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.communicate()
    assert running.returncode == 130
    assert b"inrcodec: interrupted\n" in rest and b"Traceback" not in rest
    assert {p.name: p.read_bytes() for p in tmp_path.glob("*.inr")} == {"a.inr": b"old", "b.inr": b"old"}
    assert len(list(tmp_path.iterdir())) == 4, "no stray files"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_killed_jobs_leave_no_process_behind(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    names = [shutil.copy(SAMPLES / "tiny.png", tmp_path / f"{name}.png").name for name in "ab"]
    options = ["--body", "siren", "--iterations", "10000000", "--device", "cpu", "-j", "2"]
    command = [sys.executable, "-m", "inrcodec", "encode", *names, *options, "-o", "./"]
    running = subprocess.Popen(command, cwd=tmp_path, env=ENV, stderr=subprocess.PIPE, start_new_session=True)
    time.sleep(4)
    running.kill()
    # children hold the pipe open until they have ended
    _, said = running.communicate(timeout=30)
    assert b"Traceback" not in said
    assert not list(tmp_path.glob("*.inr"))


# --- info, verify, compare, help

INFO_KEYS = {
    *("file", "kind", "shape", "channels", "colour", "sample_type", "bits_per_sample", "bytes", "bits_per_position"),
    *("quality_db", "quality_metric", "arch", "body", "grid", "cell_samples", "parameters", "macs_per_sample"),
    *("segments", "prior", "entropy", "table_set", "levels", "metadata", "sections", "digest", "encoder", "truncated"),
}


def test_the_keys_of_info_are_promises(tiny: Cli) -> None:
    facts = json.loads(ok(tiny("info tiny.inr --json")).out)
    assert set(facts) >= INFO_KEYS, "keys are added, never renamed"
    assert (facts["kind"], facts["shape"], facts["bytes"]) == ("image", [40, 48], Path("tiny.inr").stat().st_size)
    assert sum(s["bytes"] + 12 for s in facts["sections"]) + 8 == facts["bytes"]
    sample("ambi_choir.flac")
    ok(tiny("encode ambi_choir.flac"))
    facts = json.loads(ok(tiny("info ambi_choir.inr --json")).out)
    assert {*INFO_KEYS, "sample_rate_hz", "duration_s", "kbit_per_s"} <= set(facts)


def test_compare_measures_files_of_any_kind(tiny: Cli) -> None:
    facts = json.loads(ok(tiny("compare source.png tiny.inr --json")).out)
    assert {"a", "b", "a_bytes", "b_bytes", "kind", "psnr_db", "ssim"} <= set(facts)
    assert facts["psnr_db"] == pytest.approx(quality("tiny.inr", "source.png"), abs=1e-4)
    assert "identical" in ok(tiny("compare source.png source.png")).out
    assert json.loads(ok(tiny("compare source.png source.png --json")).out)["psnr_db"] is None
    sample("ambi_choir.flac")
    ok(tiny("encode ambi_choir.flac"))
    assert "SNR" in ok(tiny("compare ambi_choir.flac ambi_choir.inr")).out


def loaded_by(line: str, folder: Path) -> set[str]:
    """Which of the heavy modules a command line imports."""
    script = (
        f"import sys\nfrom inrcodec.cli.main import main\ntry: main({shlex.split(line)!r})\nexcept SystemExit as e:"
        "\n    assert e.code == 0, e.code\n"
        "heavy = {'numpy', 'torch', 'PIL', 'soundfile', 'rich', 'skimage', 'scipy', 'constriction', 'zstandard'}\n"
        "print('loaded', *sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, env=ENV, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_help_version_and_info_import_nothing_heavy(tiny: Cli) -> None:
    for line in ("-h", "-V", "info tiny.inr", "info tiny.inr --json", *(f"{name} -h" for name in COMMANDS)):
        assert loaded_by(line, Path()) == set(), line


def test_the_default_body_encodes_decodes_and_verifies_without_torch(tiny: Cli) -> None:
    for line in ("encode source.png -o x.inr", "decode tiny.inr --scale 2", "verify tiny.inr"):
        assert not loaded_by(line, Path()) & {"torch", "skimage", "soundfile"}, line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_and_a_version(cli: Cli, name: str) -> None:
    shown = ok(cli(f"{name} -h")).out
    assert f"inrcodec {name} " in shown.partition("Usage")[2].partition("\n")[2], "examples"
    assert ok(cli(f"{name} --help")).out == shown
    assert "0.1.0" in ok(cli(f"{name} -V")).out or inrcodec.__version__ in ok(cli(f"{name} -V")).out


@pytest.mark.parametrize("command", [encode_command, decode_command])
def test_examples_in_help_use_options_that_exist(command: object) -> None:
    import click

    assert isinstance(command, click.Command) and command.help
    known = {option for parameter in command.params for option in parameter.opts}
    used = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", command.help))
    assert used and used <= known


# --- README


def readme_commands() -> list[str]:
    """Lines that start with inrcodec, in the fenced sh blocks of README.md."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    lines = (line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines())
    return [line for line in lines if line.startswith("inrcodec ")]


def test_the_commands_in_the_readme_run(tmp_path: Path) -> None:
    lines = readme_commands()
    assert len(lines) >= 10
    for path in SAMPLES.iterdir():
        shutil.copy(path, tmp_path)
    shutil.copytree(SAMPLES, tmp_path / "samples")
    shutil.copy(SAMPLES / "coffee.png", tmp_path / "photo.png")
    shutil.copy(SAMPLES / "cat-sideways.jpg", tmp_path / "photo.jpg")
    for name in ("talk", "sound", "song"):
        soundfile.write(tmp_path / f"{name}.wav", *soundfile.read(SAMPLES / "ambi_choir.flac"))
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "inrcodec").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m inrcodec "$@"\n')
    (bin_folder / "inrcodec").chmod(0o755)
    env = {**ENV, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    for line in lines:
        done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, env=env, check=False)
        assert done.returncode == 0, f"{line}\n{done.stderr}"


def test_a_target_that_cannot_be_filled_is_said(cli: Cli) -> None:
    Image.new("RGB", (100, 100), (90, 120, 40)).save("flat.png")
    done = cli("encode flat.png --target-size 60k")
    assert done.code == 0
    assert "60,000 bytes were asked for" in done.err


def test_verify_has_the_limit_of_the_other_commands(cli: Cli) -> None:
    Image.new("RGB", (40, 30)).save("p.png")
    assert cli("encode p.png").code == 0
    assert cli("verify p.inr --max-pixels 100").code == 3
    assert cli("verify p.inr --max-pixels 3600").code == 0
