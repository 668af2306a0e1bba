"""Claims about what is recorded of photos for a training: its bytes, its file, and who records."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zstandard
from PIL import Image

from inrcodec.entropy.learned import N_FEATURES
from inrcodec.errors import FormatError
from inrcodec.parallel import workers
from inrcodec.priors import record_file, recording
from inrcodec.priors.record_file import pack_head, pack_record, packed_records, read_records, unpack_record
from inrcodec.priors.recording import Coding, Record

SAMPLES = Path(__file__).parent.parent / "samples"


@pytest.fixture(scope="module")
def codings() -> list[Coding]:
    picture = Image.open(SAMPLES / "coffee.png").convert("RGB").crop((200, 100, 296, 164))
    return recording.codings([picture], 0)


@pytest.fixture(scope="module")
def packed(codings: list[Coding]) -> list[bytes]:
    return list(packed_records(codings))


@pytest.fixture(scope="module")
def head(codings: list[Coding]) -> bytes:
    return pack_head(recording.mark_of([codings[0].picture], 0))


def same(a: Record, b: Record) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("features", "places", "symbols", "odd"))


def decompressed(frame: bytes) -> bytes | None:
    """What zstd itself makes of it."""
    try:
        return zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError:
        return None


def test_a_record_comes_back_and_depends_on_its_coding_alone(codings: list[Coding], packed: list[bytes]) -> None:
    for coding, data in zip(codings[::-1], packed[::-1], strict=True):
        made = recording.make_record(coding)
        read = unpack_record(data)
        assert same(made, read)
        assert (read.features.dtype, read.places.dtype, read.weights.dtype) == (np.uint8, np.int16, np.float32)
        assert read.features.shape == (len(read.places), N_FEATURES) and read.features.flags.c_contiguous
        assert same(made, unpack_record(pack_record(made)))
    assert len({len(data) for data in packed}) > 4, "codings differ"


def test_codes_around_which_all_is_zero_weigh_what_they_were_thinned_by() -> None:
    features = np.zeros((2, N_FEATURES), np.uint8)
    features[1, 5] = 1
    one = Record(features, np.zeros(2, np.int16), np.zeros(2, np.uint8), np.zeros(2, np.uint8))
    assert one.weights.tolist() == [8, 1]  # KEPT / KEPT_QUIET
    none = Record(features[:0], one.places[:0], one.symbols[:0], one.odd[:0])
    assert same(none, unpack_record(pack_record(none)))


def test_processes_record_the_same(codings: list[Coding], packed: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_file, "WORTH_A_START", 0)
    with workers(2):
        monkeypatch.setattr(record_file, "make_record", None)  # nothing is made here
        assert list(packed_records(codings)) == packed


def test_a_file_is_read_up_to_what_is_cut_off_or_damaged(head: bytes, packed: list[bytes]) -> None:
    mark = head[-32:].hex()
    whole = head + b"".join(packed[:3])
    ends = np.cumsum([len(head), *map(len, packed[:3])]).tolist()
    for n in range(0, len(whole) + 1, 7):
        file = io.BytesIO(whole[:n])
        records = read_records(file, mark)
        assert len(records) == sum(end <= n for end in ends[1:])
        assert file.tell() == (ends[len(records)] if n >= len(head) else 0)
    content = decompressed(packed[1][4:])
    for at in range(ends[1], ends[2], 5):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        file = io.BytesIO(damaged)
        records = read_records(file, mark)
        # zstd ignores some bits, and others say the same in another way: matches from one or another equal place
        harmless = decompressed(bytes(damaged[ends[1] + 4 : ends[2]])) == content and at >= ends[1] + 4
        assert (len(records), file.tell()) == ((3, ends[3]) if harmless else (1, ends[1])), at
        assert all(same(found, unpack_record(data)) for found, data in zip(records, packed, strict=False))


def test_damage_is_noticed_but_for_a_bit_that_zstd_ignores() -> None:
    rng = np.random.default_rng(0)  # noise, which zstd cannot say in another way
    features = rng.integers(0, 256, (8, N_FEATURES)).astype(np.uint8)
    places, symbols, odd = (rng.integers(0, n, 8) for n in (2**10, recording.SYMBOLS, 2))
    made = Record(features, places.astype(np.int16), symbols.astype(np.uint8), odd.astype(np.uint8))
    whole = pack_record(made)
    noticed = 0
    for at in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            try:
                assert same(unpack_record(bytes(damaged)), made)
            except FormatError:
                noticed += 1
    assert noticed >= 8 * len(whole) - 1


def test_files_of_others_are_refused(
    codings: list[Coding], head: bytes, packed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = codings[0].picture
    for mark in (recording.mark_of([picture], 1), recording.mark_of([picture, picture], 0)):
        with pytest.raises(ValueError, match="other pictures"):
            read_records(io.BytesIO(head + packed[0]), mark)
    with monkeypatch.context() as another:  # codes are chosen under the contexts in the package
        another.setattr(recording.context, "SHA256", "another network's")
        mark = recording.mark_of([picture], 0)
    with pytest.raises(ValueError, match="other pictures"):
        read_records(io.BytesIO(head + packed[0]), mark)
    with pytest.raises(FormatError, match="no file of what was recorded"):
        read_records(io.BytesIO(packed[0] * 9), head[-32:].hex())


@pytest.mark.parametrize(("name", "value"), [("places", -1), ("places", 1536), ("symbols", 28), ("odd", 2)])
def test_values_that_no_recorder_writes_are_damage(packed: list[bytes], name: str, value: int) -> None:
    record = unpack_record(packed[0])
    changed = getattr(record, name).copy()
    changed[-1] = value
    with pytest.raises(FormatError, match="out of range"):
        unpack_record(pack_record(replace(record, **{name: changed})))
