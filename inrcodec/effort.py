"""Finds the step that is asked for, and at this step the best of the candidates that --effort tries."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from .errors import TargetError
from .fields.base import OnStep, Progress
from .quantize import BIT
from .rate import solve_bytes, solve_quality, target_bytes
from .render import widen_alpha
from .settings import EncodeSettings
from .signals import Signal, SignalMeta, normalise
from .stages import STAGES, Stage, suited
from .stream import Stream
from .trial import Candidate, Trial

__all__ = ["Search", "rungs"]

ROUNDS_OF_ALL = 3  # effort 9 goes through its stages so often at most, while they find something
SOLVING_TRIALS = 5  # about what meeting a target takes
FINISHING = 0.5  # of a trial: the file is coded and verified in the end; and smaller cells take longer
# Times that a picture's first file takes, in those of effort 1: measured 1.3 (.8 to 1.7) and 5 (3 to 6.2)
TIMES_PLAIN, TIMES_DEPENDENT = 2.0, 6.0


def rungs(meta: SignalMeta, settings: EncodeSettings) -> list[tuple[int, float]]:
    """Efforts in the order in which they are to be gone through, and how many times as long as the first one their
    first file takes at most: the effort asked for alone, unless a time limit wants a file of a picture before."""
    asked = settings.effort
    if settings.time_limit_s is None or meta.kind != "image" or settings.body_or_default != "cosine":
        return [(asked, 0.0)]
    quickest, plain = (1, 1.0), (2, TIMES_PLAIN)
    if asked <= 2:
        return [quickest, plain][:asked]
    return [quickest, (asked, TIMES_DEPENDENT), plain]


@dataclass
class Search:
    """The search for one signal's file. n_bytes gives the size of the file a stream becomes; started: time.monotonic()
    from which a time limit counts. cut: whether there was no time for all that this effort tries."""

    signal: Signal
    settings: EncodeSettings
    base: Candidate
    n_bytes: Callable[[Stream], int]
    on_step: OnStep
    started: float
    cut: bool = False
    _reference: Trial | None = None  # the base candidate at the step that all compete at: its local steps weigh errors
    _last: Trial | None = None
    _n_trials: int = 0
    _tried: set[tuple[str, str, int]] = field(default_factory=set)  # names and grids of rivals, under which network
    _trial_s: float = 0.0  # what a trial takes: the last one, with the fit before it
    _began: float = field(default_factory=time.monotonic)  # this search: one at a lower effort may have come before

    def run(self) -> Stream:
        """Candidates compete at one step by cost, D + BIT · bits, with D in squared local steps. Where a target is
        given that step is the one at which the base candidate meets it, and the winner's is then found anew.

        Raises TargetError where no step meets the target.
        """
        base = self._first()
        if self._reference is not base.trial:  # the local steps that errors are measured in
            self._reference, base = base.trial, replace(base, distortion=None)
        spent = time.monotonic() - self._began
        self.on_step(self._first_file(base, spent))
        self._tried.add((base.trial.field.grid.name, "", base.trial.field.spec.synthesis))
        self._trial_s = spent / self._n_trials
        best = self._climb(base)
        if self._has_target and best is not base:
            best = self._met_again(best, base)
        self.on_step(Progress("done", 1, 1, best.trial.quality_db, n_bytes=best.n_bytes))
        return best.trial.stated

    def _first_file(self, base: _Scored, seconds: float) -> Progress:
        looks = base.trial.looks
        way = tuple(look.psnr_db for look in looks if look.psnr_db is not None)
        return Progress(
            "file", self._n_trials, self._n_trials, base.trial.quality_db, n_bytes=base.n_bytes,
            worth=looks[-1].worth if looks else None, way=way, seconds=seconds,
        )  # fmt: skip

    def _first(self) -> _Scored:
        """The base candidate at the step asked for, with cells that suit the signal at this step. With a target, that
        is the step at which the usual cells meet it; the others meet it anew, and the better file is kept."""
        base, step = self.base, self.base.field.initial_step(self.base.fitted, self.settings)
        if not self._has_target:
            return self._scored(self._meet(suited(base, self.signal, self.settings, step), step))
        usual = self._scored(self._meet(base, step))
        self._reference, self._trial_s = usual.trial, (time.monotonic() - self._began) / self._n_trials
        candidate = suited(base, self.signal, self.settings, usual.trial.step)
        if candidate is base:
            return usual
        if self._out_of_time():
            self.cut = True
            return usual
        try:
            other = self._scored(self._meet(candidate, usual.trial.step))
        except TargetError:
            return usual
        return min(usual, other, key=self._cost)

    def _climb(self, best: _Scored) -> _Scored:
        """Stage after stage; at effort 9 again, for what was found has neighbours that were not tried."""
        effort = self.settings.effort
        stages = [s for s in STAGES.get(self.base.field.spec.body, ()) if s.from_effort <= effort]
        for _ in range(ROUNDS_OF_ALL if effort == 9 else 1):
            before = best
            for i, stage in enumerate(stages):
                best = self._stage(stage, best, later=stages[i + 1 :])
            if best is before or self.cut:
                break
        return best

    def _stage(self, stage: Stage, best: _Scored, later: Sequence[Stage]) -> _Scored:
        began, before, choice, n_tried, cut = time.monotonic(), best, "", 0, False
        rivals = stage.rivals(best.trial, self.settings)
        n_later = sum(len(s.rivals(best.trial, self.settings)) for s in later)
        for i, rival in enumerate(rivals):
            key = (rival.name, rival.grid, best.trial.field.spec.synthesis)
            if key in self._tried:
                continue
            if not rival.quick and (cut := self._out_of_time(rival.times)):
                break
            now = self._n_trials
            self.on_step(
                Progress(stage.name, now, now + len(rivals) - i + n_later, best.trial.quality_db, n_bytes=best.n_bytes)
            )
            started = time.monotonic()
            candidate = rival.make()
            if candidate is not None and rival.quick and (cut := self._out_of_time()):
                break
            self._tried.add(key)
            n_tried += 1
            if candidate is None:
                continue
            scored = self._scored(self._trial(candidate, best.trial.step))
            if self._cost(scored) < self._cost(best):
                best, choice = scored, rival.name
            self._trial_s = time.monotonic() - started
        self.cut |= cut
        if n_tried or cut:
            gain = (self._cost(before) - self._cost(best)) / (BIT * 8 * before.n_bytes) if n_tried else None
            self.on_step(
                Progress(
                    stage.name, self._n_trials, self._n_trials + n_later, best.trial.quality_db, n_bytes=best.n_bytes,
                    gain=gain, choice=choice, cut=cut, seconds=time.monotonic() - began,
                )
            )  # fmt: skip
        return best

    def _out_of_time(self, times: float = 1.0) -> bool:
        """Whether one more trial, of so many times the last one's seconds, could end after the time limit, with what
        still has to follow it."""
        if self.settings.time_limit_s is None:
            return False
        trials = times + FINISHING + (SOLVING_TRIALS * times if self._has_target else 0)
        return time.monotonic() - self.started + trials * self._trial_s > self.settings.time_limit_s

    def _scored(self, trial: Trial) -> _Scored:
        scored = _Scored(trial, self.n_bytes(trial.stated))
        if self._reference is not None:
            self._cost(scored)
        vars(trial).pop("values", None)  # large pictures: one decoded copy at a time
        return scored

    def _cost(self, scored: _Scored) -> float:
        if scored.distortion is None:
            assert self._reference is not None
            meta = self.signal.meta
            error = widen_alpha(normalise(scored.trial.values, meta), meta) - widen_alpha(self.signal.samples, meta)
            base = self._reference
            scored.distortion = base.field.distortion(base.candidate.fitted, base.quantiser, error)
            vars(scored.trial).pop("values", None)
        return scored.distortion + BIT * 8 * scored.n_bytes

    @property
    def _has_target(self) -> bool:
        return self.settings.psnr_db is not None or target_bytes(self.signal.meta, self.settings) is not None

    @property
    def _expected(self) -> int:
        """Trials of a search for a target, the first of which are over; an estimate."""
        return max(SOLVING_TRIALS, self._n_trials + 1)

    def _meet(self, candidate: Candidate, step: float) -> Trial:
        """At the step that meets the target, looked for from `step` on; at `step` itself where none is given."""
        settings = self.settings

        def at(step: float) -> Trial:
            """The last one is kept, for a search ends on it as a rule."""
            if self._last is None or self._last.step != step or self._last.candidate is not candidate:
                self._last = None  # large pictures: one at a time
                self._last = self._trial(candidate, step)
            return self._last

        def quality(step: float) -> float:
            found = at(step).quality_db
            self.on_step(Progress("search", self._n_trials, self._expected, found))
            return found

        def size(step: float) -> int:
            n = self.n_bytes(at(step).stream)
            self.on_step(Progress("search", self._n_trials, self._expected, n_bytes=n))
            return n

        if settings.psnr_db is not None:
            step = solve_quality(quality, settings.psnr_db, step)
        elif (target := target_bytes(self.signal.meta, settings)) is not None:
            stream = at(step).stream
            metadata = self.n_bytes(stream) - self.n_bytes(replace(stream, metadata={}))
            if metadata >= target:
                raise TargetError(f"metadata alone is {metadata:,} bytes of {target:,}; --strip leaves it out")
            step = solve_bytes(size, target, step)
        trial, self._last = at(step), None
        return trial

    def _met_again(self, best: _Scored, base: _Scored) -> _Scored:
        """The winner at its own step, unless the base candidate has come nearer to the target by luck."""
        try:
            again = self._scored(self._meet(best.trial.candidate, best.trial.step))
        except TargetError:
            return base
        return min(base, again, key=self._cost)

    def _trial(self, candidate: Candidate, step: float) -> Trial:
        self._n_trials += 1
        # the first one says how far it is; later ones are steps of a longer way
        heard = (self.on_step,) if self._n_trials == 1 and not self._has_target else ()
        return Trial.of(candidate, step, self.signal, self.settings, *heard)


@dataclass
class _Scored:
    """distortion: in squared local steps of the reference, once it was asked for."""

    trial: Trial
    n_bytes: int
    distortion: float | None = None
