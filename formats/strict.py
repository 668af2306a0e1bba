"""Reads msgpack strictly, for the headers of all our files: short arrays of integers in canonical form, no more."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any, TypeVar

import msgpack

from inrcodec.errors import FormatError, UnsupportedError

__all__ = ["float_bits", "float_of", "integer", "named", "pack_values", "unpack_values"]

Read = TypeVar("Read")


def pack_values(version: tuple[int, int], values: list[Any]) -> bytes:
    return bytes(version) + bytes(msgpack.packb(values))


def unpack_values(
    payload: bytes,
    version: tuple[int, int],
    read: Callable[[Any], Read],
    *,
    name: str,
    max_array: int,
    max_text: int = 0,
) -> Read:
    """What `read` makes of the values behind two bytes of a version, as pack_values writes them. read may stumble over
    values of unexpected types. Raises FormatError, and UnsupportedError for another major version; name: of what is
    read, in their messages."""
    if len(payload) < 2:
        raise FormatError(f"{name}: too short")
    if payload[0] != version[0]:
        raise UnsupportedError(f"{name}: format version {payload[0]}.{payload[1]}; this inrcodec reads {version[0]}.x")
    try:
        values = msgpack.unpackb(
            payload[2:], strict_map_key=True, raw=False, max_str_len=max_text, max_bin_len=0, max_ext_len=0,
            max_map_len=0, max_array_len=max_array,
        )  # fmt: skip
        if msgpack.packb(values) != payload[2:]:
            raise FormatError("not in canonical form")
        return read(values)
    except UnsupportedError:
        raise
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from None
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, RecursionError, msgpack.UnpackException):
        raise FormatError(f"{name}: malformed") from None


def integer(value: Any, low: int, high: int, name: str) -> int:
    if type(value) is not int or not low <= value <= high:
        raise FormatError(f"{name} {value!r:.40}, wanted {low} to {high}")
    return value


def named(value: Any, ids: dict[str, int], name: str) -> str:
    integer(value, 0, 2**16, name)
    for key, number in ids.items():
        if number == value:
            return key
    raise UnsupportedError(f"{name} {value} is not known to this version")


def float_bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def float_of(bits: Any) -> float:
    value = float(struct.unpack("<d", struct.pack("<Q", integer(bits, 0, 2**64 - 1, "float")))[0])
    if not math.isfinite(value):
        raise FormatError("offset or scale is not finite")
    return value
