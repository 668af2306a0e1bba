"""zstd frames that lie about their size: refused without unpacking more than was promised."""

from __future__ import annotations

import struct
import time

import pytest
import zstandard

from inrcodec import frames
from inrcodec.errors import FormatError


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
