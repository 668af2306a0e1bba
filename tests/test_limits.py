"""Headers that claim more than there is or may be: refused within a second and 64 MiB, before anything is allocated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from inrcodec.formats.container import MAGIC, pack
from tiny_files import FILES, fuzz

from inrcodec import api
from inrcodec import decoder as decoder_module
from inrcodec.cost import largest_cell, n_parameters
from inrcodec.decoder import Decoder
from inrcodec.entropy import TABLE_SETS, zstd
from inrcodec.errors import LimitError
from inrcodec.fields import make_field
from inrcodec.fields.base import Field
from inrcodec.signals import SignalMeta
from inrcodec.stream import FieldSpec, Header, Quantiser, Stream


def header(
    shape: tuple[int, ...],
    cells: tuple[int, ...],
    *,
    channels: int = 1,
    spec: FieldSpec | None = None,
    coder: str = "range",
) -> Header:
    """Of a picture, or of an array where it has not two axes."""
    kind, colour, code = ("image", {1: "gray", 3: "rgb"}.get(channels, "plain"), "u1")
    if len(shape) != 2 or colour == "plain":
        kind, colour, code = "array", "plain", "f4"
    spec = spec or FieldSpec("multihead", "cosine")
    groups = 0 if spec.body == "cosine" else 2 * (spec.depth + 2 - (spec.connections > 0))
    quantiser = Quantiser((1,) * (groups + (spec.arch == "multihead")))
    meta = SignalMeta(kind, shape, channels, code, colour)
    return Header(meta, cells, spec, quantiser, coder, TABLE_SETS[coder])


def file_of(h: Header, payload: bytes = b"") -> bytes:
    """A whole small file under this header; one payload where the header wants more than a handful."""
    return pack(Stream(h, (payload,) * (h.n_chunks if h.n_chunks < 100 else 1), bytes(8)))


MAX = 2**31 - 1
HUGE = {
    "largest picture": header((MAX, MAX), (1, 1)),
    "largest picture, a cell per pixel": header((MAX, MAX), (MAX, MAX), channels=3),
    "largest volume": header((MAX, MAX, MAX), (MAX, MAX, MAX), channels=1024),
    "long line, a cell per sample": header((MAX,), (MAX,)),
    "just over the limit": header((2**14, 2**14 + 1), (1, 1)),
    "thin picture in one cell": header((1, 2**28), (1, 1)),
    "knots": header((2**16, 2**11), (2**11, 2**11), channels=3, spec=FieldSpec("multihead", "cosine", pitch=(1, 1))),
    "wide ensemble": header((64, 64), (64, 64), spec=FieldSpec("ensemble", "siren", 4096, 16, 10)),
    "wide body": header((64, 64), (4, 4), spec=FieldSpec("multihead", "relu", 4096, 16)),
    "many heads": header((2**13, 2**13), (2**13, 2**13), spec=FieldSpec("multihead", "relu", 4096, 0)),
    "segments": header((2**14, 2**14), (1, 1), spec=FieldSpec("ensemble", "siren", 256, 1, 10, segments=4096)),
    "features": header((64, 64), (64, 64), spec=FieldSpec("ensemble", "fourier", 4096, 0, 1, 4096)),
}  # fmt: skip

# Runs a command under a memory limit that is set once the imports are done, and prints its time and memory.
LIMITED = """
import resource, sys, time
import numpy, zstandard, msgpack, click
from inrcodec import api, errors
from inrcodec.decoder import Decoder
import inrcodec.fields.cosine, inrcodec.fields.ensemble, inrcodec.fields.multihead, inrcodec.fields.multihead_sparse
import inrcodec.entropy.range_coder, inrcodec.entropy.zstd
from inrcodec.cli.main import main
def pages(): return int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages() + 64 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
start = time.process_time()  # not what others on the machine take
try:
    main()
except SystemExit as leaving:
    code = leaving.code
print(f"{time.process_time() - start:.3f}")
sys.exit(code)
"""


def run_limited(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LIMITED, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory the Linux way")
@pytest.mark.parametrize("command", ["decode", "verify"])
@pytest.mark.parametrize("what", HUGE)
def test_a_huge_claim_is_refused_within_a_second_and_64_mib(what: str, command: str, tmp_path: Path) -> None:
    path = tmp_path / "huge.inr"
    path.write_bytes(file_of(HUGE[what]))
    options = ["-o", str(tmp_path / "out.npy" if HUGE[what].signal.kind == "array" else tmp_path / "out.png")]
    done = run_limited(command, str(path), *(options if command == "decode" else []))
    assert done.returncode in (2, 3), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert float(done.stdout.split()[-1]) < 1
    assert not (tmp_path / "out.png").exists()


MANY_CONNECTED = header((2**10, 2**10), (2**10, 2**10), spec=FieldSpec("multihead", "relu", 500, 0, connections=1))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory the Linux way")
@pytest.mark.parametrize("command", ["decode", "verify"])
def test_damaged_codes_of_a_million_connected_cells_are_refused_before_connections_are_drawn(
    command: str, tmp_path: Path
) -> None:
    path = tmp_path / "many.inr"  # within every limit, so that it may be decoded; drawing takes 20 s
    path.write_bytes(pack(Stream(MANY_CONNECTED, (b"",) * MANY_CONNECTED.n_chunks, bytes(8))))
    done = run_limited(command, str(path))
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert float(done.stdout.split()[-1]) < 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory the Linux way")
@pytest.mark.parametrize("what", ["largest picture, a cell per pixel", "largest volume", "wide ensemble", "wide body"])
def test_info_of_a_huge_claim_costs_nothing(what: str, tmp_path: Path) -> None:
    path = tmp_path / "huge.inr"
    path.write_bytes(MAGIC + file_of(HUGE[what])[len(MAGIC) :])
    done = run_limited("info", str(path))
    assert done.returncode in (0, 2), done.stderr
    assert len(done.stderr.strip().splitlines()) <= 1
    assert float(done.stdout.split()[-1]) < 1


@pytest.mark.parametrize("what", HUGE)
def test_limits_are_checked_before_a_field_is_made(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> Field:
        raise AssertionError("made a field for a header that is refused")

    monkeypatch.setattr(decoder_module, "make_field", never)
    with pytest.raises(LimitError):
        Decoder(HUGE[what], max_samples=2**28)


def test_more_multiplications_than_anybody_waits_for_are_refused() -> None:
    h = header((2**13, 2**13), (1, 1), spec=FieldSpec("ensemble", "relu", 1024, 2))
    decoder = Decoder(h, max_samples=2**28)
    weights = [np.zeros((1, n_parameters(h), 1, 1))]
    with pytest.raises(LimitError, match="multiplications"):
        decoder.render(weights, api.DecodeSettings())


def test_too_little_memory_is_a_limit_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*_: object) -> None:
        raise MemoryError

    file = api.open(FILES["picture-zstd"])
    monkeypatch.setattr(zstd, "decompress", lambda *_, **__: starve())
    with pytest.raises(LimitError, match="memory"):
        file.decode()


@pytest.mark.parametrize("name", FILES)
def test_counts_from_the_header_are_those_of_the_field(name: str) -> None:
    h = api.open(FILES[name]).header
    field = make_field(h.field, h.signal, h.grid, fuzz.prior_of(h))
    assert largest_cell(h) == h.grid.largest
    if h.field.body != "cosine":  # cosine tensors are padded to the largest cell
        weights = [layout for layout in field.layouts if layout.name != "labels"]
        assert n_parameters(h) == sum(int(np.prod(layout.shape)) for layout in weights)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="measures memory the Linux way")
@pytest.mark.parametrize("command", ["decode", "verify"])
@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"", 2, "empty"),
        (FILES["picture-range"][:-1], 2, "truncated"),
        (FILES["picture-range"][:60], 2, "truncated"),
        (FILES["picture-range"][:90] + b"?" + FILES["picture-range"][91:], 2, "CRC"),
        (FILES["picture-range"] + b"?", 2, "after the end"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0" + bytes(99), 2, "not an .inr"),
        (b"#INRIMAGE-4#{\n", 4, "INRIMAGE-4"),
        (fuzz.file_of([(b"HEAD", b"\2\0")]), 4, "version 2.0"),
        (fuzz.file_of([*fuzz.chunks_of(FILES["picture-range"])[:1], (b"NEWS", b"")]), 4, "NEWS"),
    ],
)
def test_the_command_line_says_it_in_one_line(
    command: str, data: bytes, code: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.inr"
    path.write_bytes(data)
    done = run_limited(command, str(path))
    assert done.returncode == code
    assert message in done.stderr
    assert "bad.inr" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["bad.inr"]
