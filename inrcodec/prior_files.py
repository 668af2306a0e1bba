"""Priors of either kind by their path, or by the id that an .inr file names: networks to start from, and contexts."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from .errors import FormatError, UnsupportedError
from .formats.prior_file import ID_BYTES, MAGIC, MAX_FILE_BYTES, id_bytes, unpack_prior
from .priors import context_file
from .priors.context_file import AnyPrior

__all__ = ["find_prior", "read_prior"]

FOLDERS = "INRCODEC_PRIORS"  # folders with priors, as PATH has those of programs


def read_prior(path: str | os.PathLike[str]) -> AnyPrior:
    """Raises FormatError, UnsupportedError, with the path in front; OSError."""
    with open(path, "rb") as file:  # once: it may be a pipe
        data = file.read(MAX_FILE_BYTES + 1)
    try:
        if len(data) > MAX_FILE_BYTES:
            raise FormatError(f"prior file of more than {MAX_FILE_BYTES:,} bytes")
        if data.startswith(context_file.MAGIC):
            return context_file.unpack_contexts(data)
        return unpack_prior(data)
    except (FormatError, UnsupportedError) as error:
        raise type(error)(f"{os.fsdecode(path)}: {error}") from None


def find_prior(wanted: int) -> AnyPrior | None:
    """The prior of this id in the folders that the environment variable INRCODEC_PRIORS names, whatever its suffix."""
    for folder in filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)):
        with suppress(OSError):  # a folder that cannot be looked into
            for path in sorted(Path(folder).glob("*")):
                if _may_be(path, wanted):
                    with suppress(FormatError, UnsupportedError):  # somebody's arrays
                        if (found := read_prior(path)).id == wanted:
                            return found
    return None


def _may_be(path: Path, wanted: int) -> bool:
    """Whether a file is to be read whole: a network's prior has its id at its end, contexts have none."""
    try:
        if not path.is_file():  # a folder, a pipe
            return False
        with open(path, "rb") as file:
            head = file.read(len(MAGIC))
            n_bytes = file.seek(0, os.SEEK_END)
            file.seek(max(0, n_bytes - ID_BYTES - 4))
            end = file.read(ID_BYTES)
    except OSError:  # another's
        return False
    contexts = head.startswith(context_file.MAGIC) and n_bytes <= context_file.MAX_FILE_BYTES
    return contexts or (head == MAGIC and end == id_bytes(wanted))
