"""Damaged and hostile .inr files: one typed error each, soon, in little memory; never another exception."""

from __future__ import annotations

import importlib.util
import itertools
import os
import struct
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import zstandard
from inrcodec.formats.container import MAGIC, InrFile, pack
from inrcodec.formats.header import pack_header

import inrcodec
from inrcodec import api, codec, frames
from inrcodec.cost import largest_cell, n_parameters
from inrcodec.entropy import TABLE_SETS, zstd
from inrcodec.errors import FormatError, InrError, LimitError, UnsupportedError
from inrcodec.fields import make_field
from inrcodec.fields.base import Field
from inrcodec.render import expand
from inrcodec.signals import SignalMeta
from inrcodec.stream import FieldSpec, Header, Quantiser, Stream

ALLOWED = (FormatError, UnsupportedError, LimitError)
N_MUTANTS = 1000  # benchmarks/fuzz.py runs as many as one likes


def load_fuzz() -> ModuleType:
    """benchmarks/fuzz.py, which makes the tiny files and their mutants."""
    spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).parent.parent / "benchmarks" / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzz = load_fuzz()
FILES: dict[str, bytes] = fuzz.tiny_files()


def attempt(data: bytes, *, partial: bool = False) -> np.ndarray | InrError:
    """What a reader makes of these bytes: values of a whole decode and a clean verify, or the first error. Any
    exception but the allowed ones goes through."""
    try:
        file = api.open(data, partial=partial, prior=fuzz.PRIOR)
        values = file.decode(max_samples=2**16)
        file.verify(max_samples=2**16)
    except ALLOWED as error:
        return error
    return values


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_a_format_error(name: str) -> None:
    data = FILES[name]
    for n in range(len(data)):
        assert isinstance(attempt(data[:n]), FormatError), n


@pytest.mark.parametrize("name", FILES)
def test_every_single_bit_flip_is_an_error(name: str) -> None:
    data = FILES[name]
    for at, bit in itertools.product(range(len(data)), range(8)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << bit
        assert isinstance(attempt(bytes(damaged)), InrError), (at, bit)


@pytest.mark.parametrize("name", FILES)
def test_every_bit_flip_of_a_partial_read_is_an_error_or_a_picture(name: str) -> None:
    # a length that grew looks like a file that was cut off: what comes before it may decode
    data = FILES[name]
    shape = api.open(data, prior=fuzz.PRIOR).decode().shape
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        result = attempt(bytes(damaged), partial=True)
        assert isinstance(result, InrError) or result.shape == shape


@pytest.mark.parametrize("name", FILES)
def test_every_prefix_behind_the_header_decodes_in_part_at_full_size(name: str) -> None:
    data = FILES[name]
    whole = api.open(data, prior=fuzz.PRIOR).decode()
    header_end = len(MAGIC) + 12 + len(pack_header(InrFile.of_bytes(data).header))
    for n in range(len(data)):
        result = attempt(data[:n], partial=True)
        if n < header_end:
            assert isinstance(result, FormatError)
        else:
            assert isinstance(result, np.ndarray)
            assert result.shape == whole.shape
            assert result.dtype == whole.dtype


@pytest.mark.parametrize("coder", ["zstd", "range"])
def test_each_level_more_brings_the_picture_closer(coder: str) -> None:
    data = FILES[f"levels-{coder}"]
    ends = [s.offset + s.n_bytes + 4 for s in InrFile.of_bytes(data).sections if s.kind == "DATA"]
    whole = api.open(data).decode().astype(float)
    errors = [np.mean((api.open(data[:end], partial=True).decode() - whole) ** 2) for end in ends]
    assert len(errors) == 3
    assert errors[0] > errors[1] > errors[2] == 0


def test_mutants_with_right_checksums_decode_to_the_same_codes_or_fail_cleanly() -> None:
    rngs = {name: np.random.default_rng([99, i]) for i, name in enumerate(FILES)}
    streams: dict[str, Iterator[bytes]] = {name: fuzz.mutants(FILES[name], rngs[name], 400) for name in FILES}
    codes = {name: fuzz.as_bytes(fuzz.codes_of(data)) for name, data in FILES.items()}
    outcomes: Counter[str] = Counter()
    for name in itertools.islice(itertools.cycle(FILES), N_MUTANTS):
        mutant = next(streams[name])
        outcomes[fuzz.outcome(mutant, FILES[name], codes[name])] += 1  # raises what is not allowed
        fuzz.outcome_of_variants(mutant, rngs[name])
    assert outcomes["FormatError"] > N_MUTANTS / 2  # two thirds of 102,000


@pytest.mark.parametrize("name", FILES)
def test_other_codes_under_the_same_digest_are_refused(name: str) -> None:
    stream = InrFile.of_bytes(FILES[name]).stream()
    decoder = codec.Decoder(stream.header, max_samples=2**16, prior=fuzz.PRIOR)
    codes = [c.copy() for c in decoder.codes(stream.payloads)]
    codes[-1].reshape(-1)[0] += 1
    payloads = decoder._coder.encode(codes, decoder.field.layouts, decoder._chunks)
    changed = pack(replace(stream, payloads=tuple(payloads)))
    assert isinstance(attempt(changed), FormatError)
    with pytest.raises(FormatError, match="hash"):
        api.open(changed, prior=fuzz.PRIOR).decode()
    with pytest.raises(FormatError, match="hash"):
        api.open(changed, prior=fuzz.PRIOR).verify()


# --- claims beyond all bounds


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
from inrcodec import api, codec, errors
import inrcodec.fields.cosine, inrcodec.fields.ensemble, inrcodec.fields.multihead, inrcodec.fields.multihead_sparse
import inrcodec.entropy.range_coder, inrcodec.entropy.zstd
from inrcodec.cli.main import main
def pages(): return int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (pages() + 64 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
start = time.perf_counter()
try:
    main()
except SystemExit as leaving:
    code = leaving.code
print(f"{time.perf_counter() - start:.3f}")
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

    monkeypatch.setattr(codec, "make_field", never)
    with pytest.raises(LimitError):
        codec.Decoder(HUGE[what], max_samples=2**28)


def test_more_multiplications_than_anybody_waits_for_are_refused() -> None:
    h = header((2**13, 2**13), (1, 1), spec=FieldSpec("ensemble", "relu", 1024, 2))
    decoder = codec.Decoder(h, max_samples=2**28)
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
    field = make_field(h.field, h.signal, h.grid, fuzz.PRIOR)
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


# --- zstd frames that lie


def frame(claimed: int, blocks: bytes) -> bytes:
    """A zstd frame by hand: magic, a descriptor for an 8-byte content size in one segment, the claim, the blocks."""
    return b"\x28\xb5\x2f\xfd" + b"\xe0" + struct.pack("<Q", claimed) + blocks


def rle_block(n: int, *, last: bool) -> bytes:
    return struct.pack("<I", n << 3 | 1 << 1 | last)[:3] + b"\1"


def test_a_frame_by_hand_is_one() -> None:
    assert frames.decompress(frame(1000, rle_block(1000, last=True)), limit=1000) == b"\1" * 1000


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (frame(2**40, rle_block(1000, last=True)), "wanted at most"),
        (frame(2**20 + 1, rle_block(1000, last=True)), "wanted at most"),
        (frame(2**19 + 1, b"\1\0\0"), "cannot hold"),
        (frame(100, rle_block(2**17, last=False) * 5 + rle_block(1, last=True)), "zstd payload"),  # goes on and on
        (frame(100, rle_block(99, last=True)), "zstd payload"),
        (frame(100, rle_block(100, last=True)) + b"x", "zstd payload"),
        (frame(100, rle_block(100, last=True)) * 2, "zstd payload"),
        (frame(100, rle_block(100, last=False)), "zstd payload"),
        (zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100)), "size"),
        (b"\x50\x2a\x4d\x18\4\0\0\0abcd", "zstd payload"),  # a skippable frame
        (b"", "zstd payload"),
        (b"\x28\xb5\x2f\xfd", "zstd payload"),
    ],
)
def test_a_frame_that_lies_is_refused(payload: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        frames.decompress(payload, limit=2**20)


def test_a_bomb_that_understates_its_size_is_not_unpacked() -> None:
    bomb = frame(100, rle_block(2**17, last=False) * 20_000 + rle_block(1, last=True))  # 2.6 GB in 80 kB
    started = time.monotonic()
    with pytest.raises(FormatError):
        frames.decompress(bomb, limit=2**20)
    assert time.monotonic() - started < 0.5  # unpacking it takes longer


# --- numbers beyond all bounds


@pytest.mark.parametrize("code", ["b1", "u1", "u8", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (1.7e308, 1.7e308), (-1.7e308, 1.7e308), (0.0, 0.0)])
def test_any_value_becomes_a_sample_without_a_warning(code: str, offset: float, scale: float) -> None:
    meta = SignalMeta("array", (7,), 1, code, offset=offset, scale=scale)
    values = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 1e39, 0.0])[:, None]
    assert np.isfinite(expand(values, meta).astype(np.float64)).all()


@pytest.mark.parametrize("code", ["u1", "i2", "i3", "i4", "f4", "f8"])
def test_any_value_becomes_a_sound_without_a_warning(code: str) -> None:
    values = np.array([np.nan, np.inf, -np.inf, 1e308, -1e308, 1e39, 0.0])[:, None]
    assert np.isfinite(expand(values, SignalMeta("sound", (7,), 1, code, sample_rate_hz=1))).all()


@pytest.mark.parametrize("name", FILES)
def test_the_largest_weights_at_the_largest_steps_render_silently(name: str) -> None:
    data = FILES[name]
    h = api.open(data).header
    loud = replace(h, quantiser=Quantiser((2**32 - 1,) * len(h.quantiser.steps), h.quantiser.slope, h.quantiser.shrink))
    decoder = codec.Decoder(loud, max_samples=2**16, prior=fuzz.PRIOR)
    rng = np.random.default_rng(0)
    codes = [
        rng.choice(np.array([-(2**30) + 1, 2**30 - 1], np.int32), layout.shape) for layout in decoder.field.layouts
    ]
    if h.field.segments:  # other labels are refused before
        codes[0] %= h.field.segments
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights = decoder.weights(codes)
        for scale in (1.0, 0.3, 1.5):
            values, _ = decoder.render(weights, api.DecodeSettings(scale=scale))
            assert np.isfinite(values.astype(np.float64)).all()
        decoder.sample(weights, np.full((2, len(h.signal.shape)), 1.25))


def test_metadata_of_any_bytes_is_carried_out_of_the_way() -> None:
    stream = InrFile.of_bytes(FILES["picture-zstd"]).stream()
    noise = np.random.default_rng(0).bytes(300)
    data = pack(replace(stream, metadata={"icc": noise, "exif": noise, "xmp": noise, "tags": noise}))
    assert inrcodec.open(data).metadata() == dict.fromkeys(("icc", "exif", "xmp", "tags"), noise)
    np.testing.assert_array_equal(inrcodec.open(data).decode(), inrcodec.open(FILES["picture-zstd"]).decode())
