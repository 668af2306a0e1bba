"""Takes zstd frames from files that nobody vouches for."""

from __future__ import annotations

import zstandard

from .errors import FormatError

__all__ = ["decompress"]

MAX_RATIO = 2**15  # a block of 4 bytes at least gives 2^17 bytes at most


def decompress(payload: bytes, *, limit: int) -> bytes:
    """One whole zstd frame of at most `limit` bytes. zstandard ignores max_output_size where the frame states
    its own size, so that size is checked first."""
    try:
        frame = zstandard.get_frame_parameters(payload)
        if frame.content_size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
            raise FormatError("zstd payload does not state its size")
        if frame.content_size > limit:
            raise FormatError(f"zstd payload of {frame.content_size} bytes, wanted at most {limit}")
        if frame.dict_id:
            raise FormatError("zstd payload wants a dictionary")
        if frame.content_size > MAX_RATIO * len(payload):
            raise FormatError(f"zstd payload of {len(payload)} bytes cannot hold {frame.content_size}")
        # into a buffer of that size: a streaming decompressor would go on past it until the frame ends
        raw = zstandard.ZstdDecompressor().decompress(payload, allow_extra_data=False)
        if len(raw) != frame.content_size:
            raise FormatError("zstd payload: damaged frame")
    except zstandard.ZstdError as error:
        raise FormatError(f"zstd payload: {error}") from None
    return raw
