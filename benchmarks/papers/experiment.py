"""What every experiment of the four works is: a function from options to an outcome with checks, and its data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from keep import Store
from PIL import Image

__all__ = ["SIZES", "Check", "Experiment", "Options", "Outcome", "audio_clip", "markdown", "photo", "photos", "resized"]

SIZES = ("quick", "full", "paper")
STAND_INS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")  # colour pictures


@dataclass(frozen=True)
class Options:
    """data: a folder laid out as papers/, audio/, kodak/, photos/ (None: stand-ins that scikit-image ships and the
    sample sounds). store: where long trainings are kept, so that they can be cut."""

    data: Path | None
    device: str
    seed: int
    say: Callable[[str], None]
    store: Store


@dataclass(frozen=True)
class Check:
    """A condition that reproducing the paper has to meet, what was measured, and whether it holds."""

    claim: str
    measured: str
    holds: bool


@dataclass(frozen=True)
class Outcome:
    """ours: the figure in one line. body: markdown, tables of ours beside the paper's, deviations explained. Every PSNR
    names its convention."""

    ours: str
    body: str
    checks: tuple[Check, ...]
    plots: dict[str, Callable[[Path], None]] = field(default_factory=dict)  # file name in docs/papers/ -> writes it


@dataclass(frozen=True)
class Experiment:
    """rows: of the table in docs/papers.md, one per figure or table of a paper. paper: its figure, in one line.

    run: (options, one of sizes) -> outcome. sizes: "quick", "full" and, where the full run is not the paper's already
    (or the paper has none), "paper". size: what the full run is, against the paper's. cost: of the paper's size,
    estimated. whole: what the run at the paper's size is.
    """

    rows: tuple[int, ...]
    name: str
    title: str
    paper: str
    run: Callable[[Options, Any], Outcome]
    sizes: Mapping[str, Any]
    size: str = "stand-in"
    cost: str = ""
    whole: str = "the paper's, in full"

    def __post_init__(self) -> None:
        assert {"quick", "full"} <= set(self.sizes) <= set(SIZES), self.name
        assert ("paper" in self.sizes) == bool(self.cost), self.name

    def nearest(self, size: str) -> str:
        """The size that is run where this one is asked for."""
        return size if size in self.sizes else "full"


def markdown(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; the first column left, the others right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(str(c) for c in row) + " |" for row in rows)]) + "\n"


def photo(options: Options, name: str, *, stand_in: str = "astronaut") -> tuple[np.ndarray, str]:
    """A picture of the papers ('papers/enrp-image.jpg'), or a stand-in of scikit-image: uint8 [H, W, 3], and what it
    is."""
    if options.data is not None and (path := options.data / name).exists():
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB")), path.name
    import skimage.data

    pixels = getattr(skimage.data, stand_in)()
    return (pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, 2)), f"scikit-image's {stand_in}"


def photos(options: Options, n: int) -> tuple[list[np.ndarray], str]:
    """ENRP's own picture, then others of the data, or scikit-image's: up to n, uint8 [H, W, 3], and what they are."""
    first, name = photo(options, "papers/enrp-image.jpg")
    found, others = [first], []
    if options.data is not None:
        others = [*sorted((options.data / "kodak").glob("*.png")), *sorted((options.data / "photos").glob("*.jpg"))]
    for path in others[: n - 1]:
        with Image.open(path) as picture:
            found.append(np.asarray(picture.convert("RGB")))
    if others:
        return found[:n], f"{name} and {len(found) - 1} photos" if len(found) > 1 else name
    import skimage.data

    found += [getattr(skimage.data, s)() for s in STAND_INS if s not in name][: n - 1]
    return found[:n], f"{name} and {len(found) - 1} more of scikit-image's" if len(found) > 1 else name


def resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear with antialias (Pillow), uint8."""
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))


def audio_clip(options: Options) -> tuple[np.ndarray, int, str]:
    """gt_bach.wav or a sample sound, mono float32 [N], its rate in Hz, and what it is."""
    import soundfile

    path = Path(__file__).resolve().parents[2] / "samples" / "guit_harmonics.flac"
    if options.data is not None and (bach := options.data / "audio" / "gt_bach.wav").exists():
        path = bach
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return samples.mean(axis=1), int(rate), path.name
