"""Priors of either kind by their path, or by the id that an .inr file names: .inp files and contexts, .npz."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import FormatError, UnsupportedError
from .formats.prior_file import ID_BYTES, MAX_FILE_BYTES, id_bytes, unpack_prior
from .priors import context_file
from .priors.context_file import AnyPrior, ContextFile

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
    """The prior of this id in the folders that the environment variable INRCODEC_PRIORS names."""
    for folder in filter(None, os.environ.get(FOLDERS, "").split(os.pathsep)):
        for path in sorted(p for p in Path(folder).glob("*") if p.suffix in (".inp", ".npz")):
            if not path.is_file() or not os.access(path, os.R_OK):  # a folder, a pipe, another's
                continue
            if path.suffix == ".npz":
                try:
                    contexts = read_prior(path)
                except (FormatError, UnsupportedError):  # somebody's arrays
                    continue
                if isinstance(contexts, ContextFile) and contexts.id == wanted:
                    return contexts
                continue
            with open(path, "rb") as file:  # the id stands at the end, so that the others need not be read
                file.seek(max(0, file.seek(0, os.SEEK_END) - ID_BYTES - 4))
                if file.read(ID_BYTES) != id_bytes(wanted):
                    continue
            return read_prior(path)
    return None
