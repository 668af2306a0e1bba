"""The errors a caller can meet, each with the exit code that the command line gives it."""

from __future__ import annotations

__all__ = ["FormatError", "InrError", "LimitError", "SignalError", "TargetError", "UnsupportedError"]


class InrError(Exception):
    """Base of every error this package raises on purpose. Its text is one line: where, found, wanted."""

    exit_code = 2


class FormatError(InrError):
    """The bytes are not a well-formed .inr file: damaged, truncated, or something else altogether."""

    exit_code = 2


class SignalError(InrError):
    """The picture, sound or array cannot be encoded: empty, not finite, unreadable, too many channels."""

    exit_code = 2


class LimitError(InrError):
    """A safety limit would be exceeded; nothing has been allocated. Limits can be raised by the caller."""

    exit_code = 3


class UnsupportedError(InrError):
    """Well-formed, but of a newer version or a kind this version does not know."""

    exit_code = 4


class TargetError(InrError):
    """No encoding meets the requested size, rate or quality. best_db: the highest quality found, where one was asked
    for."""

    exit_code = 5

    def __init__(self, message: str, best_db: float | None = None) -> None:
        super().__init__(message)
        self.best_db = best_db
