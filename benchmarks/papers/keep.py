"""Keeps what an experiment's trainings gave, and the state of the one under way, so that days of work can be cut."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from inrcodec.formats.files import write_atomically

from inrcodec.fields.base import Progress
from inrcodec.fitting import DescentState

__all__ = ["UNTIMED", "Look", "Made", "Store", "Ticker", "Watch", "digest", "duration"]

T = TypeVar("T")
SAVE_EVERY_S = 120.0
SAY_EVERY_S = 30.0
MADE = "made"  # beside the fields of a kept result: how it was made
LISTS = ("parameters", "means", "squares", "best")  # of a DescentState


@dataclass(frozen=True)
class Look:
    """PSNR in dB of the best step so far and of this one, and seconds of training before it."""

    step: int
    best_db: float
    now_db: float
    seconds: float


class Ticker:
    """Says every half minute how far a training is, and when it ends at this pace."""

    def __init__(self, say: Callable[[str], None], label: str) -> None:
        self._say, self._label = say, label
        self._first: tuple[float, int] | None = None
        self._said = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        self._first = self._first or (now, progress.step)
        began, step = self._first
        if now - self._said < SAY_EVERY_S or progress.step == step:
            return
        self._said = now
        left = (now - began) / (progress.step - step) * (progress.n_steps - progress.step)
        level = "" if progress.psnr_db is None else f", {progress.psnr_db:.2f} dB"
        self._say(f"  {self._label}: step {progress.step:,} of {progress.n_steps:,}{level}, {duration(left)} to go")


class Watch:
    """What a training reports, over all runs that it was cut into; fitting.Keeper of its state.

    path: None where nothing is kept. Seconds are counted from the moment this is made.
    """

    def __init__(self, path: Path | None, ticker: Ticker) -> None:
        self.looks: list[Look] = []
        self._path, self._ticker = path, ticker
        self._before_s, self._began = 0.0, time.perf_counter()
        self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        return self._before_s + time.perf_counter() - self._began

    def on_step(self, progress: Progress) -> None:
        if progress.psnr_db is not None and progress.now_db is not None:
            self.looks.append(Look(progress.step, progress.psnr_db, progress.now_db, self.seconds))
        self._ticker(progress)

    def load(self) -> DescentState | None:
        if self._path is None or not self._path.exists():
            return None
        try:
            with np.load(self._path, allow_pickle=False) as file:
                step, best_step = (int(v) for v in file["counts"])
                lists = {k: tuple(file[f"{k}{i}"] for i in range(sum(n.startswith(k) for n in file))) for k in LISTS}
                looks, (best_loss, self._before_s) = file["looks"], file["facts"].tolist()
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile):
            return None  # a damaged file is worth no more than none
        self.looks = [Look(int(n), *rest) for n, *rest in looks.tolist() if n < step]
        return DescentState(step, best_step=best_step, best_loss=best_loss, **lists)

    def due(self) -> bool:
        return self._path is not None and time.monotonic() - self._saved >= SAVE_EVERY_S

    def save(self, state: DescentState) -> None:
        assert self._path is not None
        looks = np.array([[k.step, k.best_db, k.now_db, k.seconds] for k in self.looks]).reshape(-1, 4)
        arrays = {f"{k}{i}": a for k in LISTS for i, a in enumerate(getattr(state, k))}
        file = io.BytesIO()
        np.savez(file, counts=np.array([state.step, state.best_step]), looks=looks,
                 facts=np.array([state.best_loss, self.seconds]), **arrays)  # fmt: skip
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path, file.getvalue(), overwrite=True)
        self._saved = time.monotonic()

    def forget(self) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Made:
    """What a result of an earlier run took, and on which machine."""

    seconds: float
    machine: str


UNTIMED = Made(0.0, "")  # what an earlier run left without saying so


@dataclass(frozen=True)
class Store:
    """A folder of results; None: nothing is kept, everything is made anew.

    machine: this one, in words. earlier: what results of earlier runs took, of those asked for so far. counted: names
    of those, and of the results that this run made itself.
    """

    folder: Path | None
    say: Callable[[str], None]
    machine: str = ""
    earlier: list[Made] = field(default_factory=list)
    counted: set[str] = field(default_factory=set)

    def result(self, label: str, key: object, make: Callable[[Watch], T], load: Callable[[dict[str, Any]], T]) -> T:
        """make(watch), a dataclass; or, by load, what it gave in an earlier run. key: its repr is all that decides."""
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
        known = self._known()
        if name in known:
            self.say(f"  {label}: kept from an earlier run")
            value = dict(known[name])
            self.used(name, Made(*value.pop(MADE, (0.0, ""))))
            return load(value)
        watch = Watch(self.folder and self.folder / f"{name}.npz", Ticker(self.say, label))
        value = make(watch)
        self.counted.add(name)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            own = asdict(value) | {MADE: (watch.seconds, self.machine)}  # type: ignore[call-overload]
            write_atomically(self.folder / "results.json", json.dumps(known | {name: own}).encode(), overwrite=True)
            watch.forget()
        return value

    def used(self, name: str, made: Made = UNTIMED) -> None:
        """Counts a kept result as an earlier run's, once, unless this one made it."""
        if name not in self.counted:
            self.earlier.append(made)
            self.counted.add(name)

    def _known(self) -> dict[str, Any]:
        path = self.folder and self.folder / "results.json"
        return json.loads(path.read_text()) if path is not None and path.exists() else {}


def digest(*arrays: np.ndarray) -> str:
    h = hashlib.sha256()
    for a in arrays:
        h.update(repr((a.shape, a.dtype.str)).encode() + np.ascontiguousarray(a).tobytes())
    return h.hexdigest()[:24]


def duration(seconds: float) -> str:
    """As one reads it: 40 s, 12 min, 3.5 h, 2.1 days."""
    for unit, size, digits in (("days", 86400, 1), ("h", 3600, 1), ("min", 60, 0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"
