"""Turns the state of meta-training into the bytes of a plain .npz and back, so that it can go on where it stopped."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from dataclasses import asdict, replace

import numpy as np

from ..errors import FormatError
from ..fields.layers import MlpShape
from .meta import MetaSettings, MetaState, Tasks

__all__ = ["fingerprint", "pack_state", "unpack_state"]


def fingerprint(shape: MlpShape, tasks: Tasks, settings: MetaSettings) -> str:
    """Of everything that the result depends on but the device: hex."""
    h = hashlib.sha256(repr((asdict(shape), tasks.patch, asdict(replace(settings, device="")))).encode())
    for array in (tasks.coords, tasks.regions, *tasks.signals):
        h.update(repr(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return h.hexdigest()


def pack_state(state: MetaState, mark: str) -> bytes:
    """mark: the fingerprint of the training."""
    file = io.BytesIO()
    np.savez(
        file, mark=np.frombuffer(mark.encode("ascii"), np.uint8), counts=np.array([state.step, state.rounds]),
        values=state.values, moments=state.moments, mask=state.mask, loss=np.array(state.loss),
    )  # fmt: skip
    return file.getvalue()


def unpack_state(data: bytes, mark: str, like: MetaState) -> MetaState:
    """like: a state of the same training, whose shapes are wanted. Raises FormatError for what is no such file,
    ValueError for one of another training."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            if file["mark"].tobytes() != mark.encode("ascii"):
                raise _Other
            step, rounds = (int(v) for v in file["counts"])
            state = MetaState(step, rounds, file["values"], file["moments"], file["mask"], float(file["loss"]))
    except _Other:
        raise ValueError("a checkpoint of other signals or settings") from None
    except (ValueError, TypeError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        raise FormatError("not a checkpoint of meta-training, or a damaged one") from None
    for name in ("values", "moments", "mask"):
        a, b = getattr(state, name), getattr(like, name)
        if a.shape != b.shape or a.dtype != b.dtype:
            raise FormatError(f"checkpoint: {name} of {a.dtype} {a.shape}, wanted {b.dtype} {b.shape}")
    return state


class _Other(Exception):
    pass
