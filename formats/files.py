"""Turns paths into signals and signals into files, choosing the format by content and by name."""

from __future__ import annotations

import contextlib
import importlib
import os
import stat
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

from inrcodec.errors import InrError, LimitError, SignalError
from inrcodec.signals import Signal, SignalMeta

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SIGNAL_FORMATS", "SignalFormat", "default_suffix", "format_for", "read_signal", "write_atomically"]
__all__ += ["write_signal"]

STREAM = "-"
_HEAD_BYTES = 64


@dataclass(frozen=True)
class SignalFormat:
    """A kind of file, read and written by inrcodec.formats.<module>."""

    name: str
    kind: str  # image | sound | array
    module: str
    suffixes: tuple[str, ...]
    magic: tuple[tuple[bytes, bytes], ...]  # pairs: the file's first bytes, and those at byte 8


SIGNAL_FORMATS = (  # the first of a kind is its default
    SignalFormat("png", "image", "image", (".png",), ((b"\x89PNG\r\n\x1a\n", b""),)),
    SignalFormat("jpeg", "image", "image", (".jpg", ".jpeg", ".jpe", ".jfif"), ((b"\xff\xd8\xff", b""),)),
    SignalFormat("webp", "image", "image", (".webp",), ((b"RIFF", b"WEBP"),)),
    SignalFormat(
        "tiff", "image", "image", (".tif", ".tiff"), tuple((m, b"") for m in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"))
    ),
    SignalFormat("bmp", "image", "image", (".bmp",), ((b"BM", b""),)),
    SignalFormat("wav", "sound", "audio", (".wav",), ((b"RIFF", b"WAVE"), (b"RF64", b"WAVE"))),
    SignalFormat("flac", "sound", "audio", (".flac",), ((b"fLaC", b""),)),
    SignalFormat("ogg", "sound", "audio", (".ogg", ".oga", ".opus"), ((b"OggS", b""),)),
    SignalFormat(
        "mp3",
        "sound",
        "audio",
        (".mp3",),
        tuple((m, b"") for m in (b"ID3", b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3", b"\xff\xe2")),
    ),
    SignalFormat("aiff", "sound", "audio", (".aif", ".aiff", ".aifc"), ((b"FORM", b"AIFF"), (b"FORM", b"AIFC"))),
    SignalFormat("npy", "array", "array", (".npy",), ((b"\x93NUMPY", b""),)),
)
_KINDS = {"image": "picture", "sound": "sound", "array": "array"}


def read_signal(path: str | os.PathLike[str], *, max_samples: int) -> Signal:
    """path: a picture, sound or array; "-" reads standard input.

    Raises SignalError or LimitError with the path in front, OSError where the file cannot be read.
    """
    name = os.fspath(path)
    shown = "standard input" if name == STREAM else name
    # The longest that a file with so many values plausibly is: 8 bytes each, and metadata
    limit = 16 * max_samples + 2**26
    with _reading(name) as stream:
        head = stream.read(_HEAD_BYTES)
        try:
            reader = _reader(head, name)
            data = head + stream.read(limit + 1 - len(head))
            if len(data) > limit:
                raise LimitError(f"file longer than {limit:,} bytes")
            return reader.read(data, max_samples=max_samples)
        except InrError as error:
            raise type(error)(f"{shown}: {error}") from None


def write_signal(
    path: str | os.PathLike[str],
    values: np.ndarray,
    meta: SignalMeta,
    metadata: dict[str, bytes] | None = None,
    *,
    file_format: str | None = None,
    overwrite: bool = False,
) -> int:
    """values: as from signals.expand, [*shape, C]. The format is file_format, or follows from the path's suffix; "-"
    is standard output, in the kind's default format if none is named. Returns the number of bytes written.

    Raises ValueError where the format is unknown or cannot hold the signal, FileExistsError without overwrite.
    """
    chosen = format_for(path, meta, file_format)
    module = importlib.import_module(f"inrcodec.formats.{chosen.module}")
    data: bytes = module.write(values, meta, metadata or {}, file_format=chosen.name)
    write_atomically(path, data, overwrite=overwrite)
    return len(data)


def format_for(path: str | os.PathLike[str], meta: SignalMeta, file_format: str | None = None) -> SignalFormat:
    """The format that write_signal would choose. file_format: a name or a suffix without its dot, jpg as jpeg.

    Raises ValueError where there is none.
    """
    wanted = f"{_KINDS[meta.kind]} formats: {', '.join(f.name for f in SIGNAL_FORMATS if f.kind == meta.kind)}"
    if file_format is not None:
        found = _by_suffix("." + file_format.lower())
        if found is None:
            raise ValueError(f"format {file_format}: unknown, {wanted}")
    else:
        suffix = os.path.splitext(os.fspath(path))[1]
        found = _by_suffix(suffix.lower())
        if found is None and (os.fspath(path) == STREAM or _is_direct(os.fspath(path))):
            found = next(f for f in SIGNAL_FORMATS if f.kind == meta.kind)
        if found is None:
            raise ValueError(f"{os.fspath(path)}: suffix {suffix or 'missing'} names no format, {wanted}")
    if found.kind != meta.kind:
        raise ValueError(
            f"{found.name} cannot hold {'an' if meta.kind == 'array' else 'a'} {_KINDS[meta.kind]}, {wanted}"
        )
    return found


def default_suffix(meta: SignalMeta) -> str:
    """.png, .wav or .npy"""
    return next(f.suffixes[0] for f in SIGNAL_FORMATS if f.kind == meta.kind)


def write_atomically(path: str | os.PathLike[str], data: bytes, *, overwrite: bool) -> None:
    """The file holds all of data or stays as it was, whatever happens; no other file is left beside it.

    "-" is standard output. Devices and pipes are written to directly, a symbolic link stays one, an existing file
    keeps its permissions. Raises FileExistsError where a file exists and overwrite is False.
    """
    name = os.fspath(path)
    if name == STREAM:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    if _is_direct(name):
        with open(name, "wb", buffering=0) as device:
            view = memoryview(data)
            while view:
                view = view[device.write(view) :]
        return
    target = os.path.realpath(name)
    mode = None
    with contextlib.suppress(FileNotFoundError):
        mode = stat.S_IMODE(os.stat(target).st_mode)
        if os.path.isdir(target):
            raise IsADirectoryError(21, "Is a directory", name)
        if not overwrite:
            raise FileExistsError(17, "File exists", name)
    spare = os.path.join(os.path.dirname(target), f".inrcodec-{os.urandom(8).hex()}.tmp")
    try:
        _write_beside(target, spare, data, mode)
        _move(spare, target, overwrite=overwrite)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(spare)
        raise


def _write_beside(target: str, spare: str, data: bytes, mode: int | None) -> None:
    """Puts data into the new file spare. On Linux it has no name until it is whole, so that even a killed process
    leaves nothing behind."""
    flags = os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    nameless = hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd")
    try:
        if not nameless:
            raise OSError
        descriptor = os.open(os.path.dirname(target), flags | os.O_TMPFILE, 0o666)
    except OSError:  # a file system that cannot; where nothing can, the next line says why
        nameless = False
        descriptor = os.open(spare, flags | os.O_CREAT | os.O_EXCL, 0o666)
    with open(descriptor, "wb") as stream:
        if mode is not None and hasattr(os, "fchmod"):
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, mode)
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)
        if nameless:
            folder = os.open(os.path.dirname(target), os.O_RDONLY)
            try:  # only with a directory given does Python follow the link in /proc
                os.link(f"/proc/self/fd/{descriptor}", os.path.basename(spare), dst_dir_fd=folder, follow_symlinks=True)
            finally:
                os.close(folder)


def _move(spare: str, target: str, *, overwrite: bool) -> None:
    """Gives spare the name target; without overwrite never in place of a file that has come meanwhile."""
    if overwrite:
        os.replace(spare, target)
        return
    try:
        os.link(spare, target)
    except FileExistsError:
        raise FileExistsError(17, "File exists", target) from None
    except OSError:  # a file system without links: claim the name, then replace what we made
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            os.replace(spare, target)
        except BaseException:
            os.unlink(target)
            raise
    else:
        os.unlink(spare)


def _reading(name: str) -> contextlib.AbstractContextManager[BinaryIO]:
    return contextlib.nullcontext(sys.stdin.buffer) if name == STREAM else open(name, "rb")


def _reader(head: bytes, name: str) -> ModuleType:
    """The module that reads a file which begins with head; its name is asked where the content says nothing."""
    if not head:
        raise SignalError("empty file: wanted a picture, a sound or an array")
    if head.startswith(b"\x89INR"):
        raise SignalError("an .inr file already: decode it first")
    for entry in SIGNAL_FORMATS:
        if any(head.startswith(first) and head[8:].startswith(later) for first, later in entry.magic):
            return importlib.import_module(f"inrcodec.formats.{entry.module}")
    image = importlib.import_module("inrcodec.formats.image")
    if image.recognises(head):
        return image
    named = _by_suffix(os.path.splitext(name)[1].lower())
    if named is None:
        raise SignalError("neither a picture nor a sound nor an array that can be read")
    return importlib.import_module(f"inrcodec.formats.{named.module}")


def _by_suffix(suffix: str) -> SignalFormat | None:
    return next((f for f in SIGNAL_FORMATS if suffix in f.suffixes or suffix == "." + f.name), None)


def _is_direct(name: str) -> bool:
    """Whether name is a device, a pipe, or another name of an open stream, which no rename may replace."""
    if name.startswith(("/dev/std", "/dev/fd/", "/proc/self/fd/")):
        return True
    try:
        kind = os.stat(name).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(kind) or stat.S_ISDIR(kind))
