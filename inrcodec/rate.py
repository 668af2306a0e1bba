"""What a target means in bytes, and the quantiser step that meets it: a bracketed secant search on the logarithm of the
step."""

from __future__ import annotations

import math
from collections.abc import Callable

from .errors import TargetError
from .settings import EncodeSettings
from .signals import SignalMeta

__all__ = ["solve_bytes", "solve_quality", "target_bytes"]

FINEST, COARSEST = 2.0**-22, 2.0**7  # steps tried at most
QUALITY_TOLERANCE_DB = 0.1
BYTES_TOLERANCE = 0.03
MAX_TRIES = 24
NEARBY = 0.004  # between the logarithms of steps that are tried about a jump


def target_bytes(meta: SignalMeta, settings: EncodeSettings) -> int | None:
    """The file size that --target-size, --bpp or --bitrate mean for this signal."""
    if settings.bits_per_sample is not None:
        return max(1, int(settings.bits_per_sample * meta.n_samples / 8))
    if settings.kbit_per_s is not None:
        return max(1, int(settings.kbit_per_s * 125 * meta.duration_s))
    return settings.target_bytes


def solve_quality(quality_db: Callable[[float], float], wanted_db: float, start: float) -> float:
    """Step whose quality lies in [wanted, wanted + 0.1] dB, or, where none does (codes are integers), the
    coarsest step found at or above it. Raises TargetError where even the finest step stays below."""
    search = _Search(lambda s: quality_db(s) - wanted_db - QUALITY_TOLERANCE_DB / 2, slope=-20 / math.log(10))
    return search.run(
        start,
        good=lambda miss: abs(miss) <= QUALITY_TOLERANCE_DB / 2,
        unreachable=lambda miss: _too_low(wanted_db, wanted_db + miss + QUALITY_TOLERANCE_DB / 2),
        margin=QUALITY_TOLERANCE_DB / 2,
    )


def _too_low(wanted_db: float, best_db: float) -> TargetError:
    return TargetError(f"{wanted_db:g} dB cannot be reached; the best is {best_db:.2f} dB", best_db)


def solve_bytes(n_bytes: Callable[[float], int], target: int, start: float) -> float:
    """Step whose file has at most `target` bytes and, where one exists, at least 97 % of them. Raises TargetError
    where even the coarsest step stays above."""
    search = _Search(lambda s: math.log(target / n_bytes(s)), slope=0.75)
    return search.run(
        start,
        good=lambda room: 0 <= room <= BYTES_TOLERANCE / 2,
        unreachable=lambda room: TargetError(
            f"{target:,} bytes cannot be reached; the smallest file has {round(target / math.exp(room)):,}"
        ),
        margin=0.0,
        aim=BYTES_TOLERANCE / 4,
    )


class _Search:
    """f over log(step), monotone but for rounding. Admissible steps have f >= -margin; the best admissible one is
    that with the least f."""

    def __init__(self, f: Callable[[float], float], slope: float) -> None:
        self._f, self._slope = f, slope  # slope: a first guess of df / dlog(step)
        self._seen: dict[float, float] = {}

    def run(
        self,
        start: float,
        *,
        good: Callable[[float], bool],
        unreachable: Callable[[float], TargetError],
        margin: float,
        aim: float = 0.0,
    ) -> float:
        low, high = math.log(FINEST), math.log(COARSEST)
        at = min(max(math.log(start), low), high)
        below: tuple[float, float] | None = None  # log step and f on the two sides of the aim
        above: tuple[float, float] | None = None
        for _ in range(MAX_TRIES):
            value = self._evaluate(at)
            if good(value):
                return math.exp(at)
            if value < aim:
                below = (at, value)
            else:
                above = (at, value)
            if below and above:
                at = self._between(below, above, aim)
                if abs(below[0] - above[0]) < 1e-4:
                    break
            else:
                edge = high if ((value < aim) == (self._slope > 0)) else low
                if at == edge:
                    break
                reach = abs((aim - value) / self._slope) * 1.2 + 0.02
                at = min(at + reach, high) if edge == high else max(at - reach, low)
        # a jump: codes of small pictures go by fits and starts, and another step nearby may do
        for distance in (sign * i * NEARBY for i in range(1, MAX_TRIES) for sign in (1, -1)):
            if len(self._seen) >= MAX_TRIES or not (below and above):
                break
            if low < at + distance < high and good(self._evaluate(at + distance)):
                return math.exp(at + distance)
        admissible = [(v, x) for x, v in self._seen.items() if v >= -margin]
        if not admissible:
            raise unreachable(max(self._seen.values()))
        return math.exp(max(admissible, key=lambda found: (-found[0], found[1]))[1])  # the coarsest of equals

    def _evaluate(self, at: float) -> float:
        if at not in self._seen:
            self._seen[at] = self._f(math.exp(at))
        return self._seen[at]

    def _between(self, below: tuple[float, float], above: tuple[float, float], aim: float) -> float:
        """Secant, kept away from the ends of the bracket; plain halving after many tries."""
        share = (aim - below[1]) / (above[1] - below[1]) if len(self._seen) < 12 else 0.5
        return below[0] + min(max(share, 0.05), 0.95) * (above[0] - below[0])
