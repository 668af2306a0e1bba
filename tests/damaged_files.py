"""Damage to files, for the tests of every format that is read."""

from collections.abc import Callable

import numpy as np

from inrcodec.errors import LimitError, SignalError
from inrcodec.signals import Signal

__all__ = ["assert_damage_is_refused_or_read"]


def assert_damage_is_refused_or_read(good: bytes, read: Callable[[bytes], Signal], *, times: int, within: int) -> None:
    """Of `times` copies with three bytes changed, among the first `within`, none raises anything but SignalError and
    LimitError, or has samples that are not finite."""
    generator = np.random.default_rng(0)
    for _ in range(times):
        damaged = bytearray(good)
        for at in generator.integers(0, min(len(good), within), 3):
            damaged[at] = generator.integers(256)
        try:
            signal = read(bytes(damaged))
        except (SignalError, LimitError):
            continue
        assert np.isfinite(signal.samples).all()
