"""What a caller may ask of encode and decode, checked once, here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from .priors.context_file import AnyPrior

__all__ = [
    "ARCHS",
    "BODIES",
    "CODERS",
    "DecodeSettings",
    "EncodeSettings",
    "PARTITIONS",
    "PRIOR_METHODS",
    "SYNTHESIS",
    "TUNES",
]

ARCHS = ("multihead", "ensemble")
BODIES = ("cosine", "relu", "siren", "fourier")
CODERS = ("auto", "range", "zstd")
TUNES = ("perceptual", "psnr")
SYNTHESIS = ("auto", "off")
PARTITIONS = ("grid", "segments")
# maml: Meta-SparseINR (arXiv 2110.14678), magnitude pruning and meta-training in turns; the others are its baselines
PRIOR_METHODS = ("maml", "maml-random", "dense-narrow", "maml-one-shot", "maml-imp", "scratch")
MAX_SAMPLES = 2**28  # default limit on decoded values (positions times channels)


@dataclass(frozen=True)
class EncodeSettings:
    """Options of `inrcodec encode`. At most one of psnr_db, bits_per_sample, target_bytes, kbit_per_s may be
    set; if none is, quality decides. Raises ValueError for combinations that make no sense."""

    grid: str = "auto"  # as typed: 16, 16x12, auto
    quality: float = 75.0  # 0 … 100
    psnr_db: float | None = None
    bits_per_sample: float | None = None  # --bpp: bits per pixel, or per frame of a sound
    target_bytes: int | None = None
    kbit_per_s: float | None = None  # --bitrate, sounds only
    tune: str = "perceptual"
    arch: str = "multihead"
    body: str | None = None  # None: cosine for multihead, siren for ensemble
    partition: str | None = None  # None: what --arch means by cells
    segments: np.ndarray | None = None  # label map int [H, W] of --partition segments; None: found in the picture
    connections: int | None = None  # multihead relu: features per head; None all
    # ensemble: where every network starts, and what its file is relative to; cosine: contexts its codes are coded under
    prior: AnyPrior | None = None
    width: int | None = None
    depth: int | None = None
    bits: int | None = None  # MLP weights: bits each before entropy coding
    iterations: int | None = None
    effort: int = 5  # cosine body: what is tried, 1 … 9; docs/design.md has the ladder
    time_limit_s: float | None = None
    seed: int = 0
    device: str = "auto"
    entropy: str = "auto"
    synthesis: str = "auto"  # off: no network corrects pictures (as from effort 2 on, where it pays) or adds detail
    verify: bool = True

    def __post_init__(self) -> None:
        _one_of("arch", self.arch, ARCHS)
        if self.body is not None:
            _one_of("body", self.body, BODIES)
        _one_of("entropy", self.entropy, CODERS)
        _one_of("tune", self.tune, TUNES)
        _one_of("synthesis", self.synthesis, SYNTHESIS)
        if self.partition is not None:
            _one_of("partition", self.partition, PARTITIONS)
        if self.partition is not None and self.arch != "ensemble":
            raise ValueError(f"--partition {self.partition} needs --arch ensemble")
        if (prior := self.prior) is not None:
            of_contexts = prior.body == "cosine"
            if self.arch != prior.arch:
                raise ValueError(
                    f"--prior needs --arch {prior.arch}: it is of {'contexts' if of_contexts else 'networks'}"
                )
            if of_contexts and self.body_or_default != "cosine":
                raise ValueError("--prior needs --body cosine: it is of contexts")
        if self.segments is not None and self.partition != "segments":
            raise ValueError("--segments needs --partition segments")
        if self.prior is not None and self.partition == "segments":
            raise ValueError("--prior and --partition segments exclude each other: a prior is for cells of one size")
        if self.connections is not None and (self.arch, self.body) != ("multihead", "relu"):
            raise ValueError("--connections needs --arch multihead --body relu")
        if self.arch == "ensemble" and self.body == "cosine":
            raise ValueError("--arch ensemble needs an MLP body: --body siren, relu or fourier")
        if self.body_or_default == "cosine":
            for name in ("width", "depth", "bits", "iterations"):
                if getattr(self, name) is not None:
                    raise ValueError(f"--{name} belongs to the MLP bodies; the cosine body is fitted in closed form")
        elif self.effort != EncodeSettings.effort:
            raise ValueError("--effort belongs to the cosine body; the MLP bodies have --iterations and --time-limit")
        targets = ("psnr_db", "bits_per_sample", "target_bytes", "kbit_per_s")
        if sum(getattr(self, t) is not None for t in targets) > 1:
            raise ValueError("--psnr, --bpp, --target-size and --bitrate exclude each other")
        _within("quality", self.quality, 0, 100)
        for option, value, low, high in (
            ("psnr", self.psnr_db, 1, 200), ("bpp", self.bits_per_sample, 1e-6, 1e4),
            ("target-size", self.target_bytes, 1, 2**40), ("bitrate", self.kbit_per_s, 1e-3, 1e6),
            ("connections", self.connections, 1, 4096), ("width", self.width, 1, 4096),
            ("depth", self.depth, 0, 16), ("bits", self.bits, 2, 16),
            ("iterations", self.iterations, 1, 10**7), ("effort", self.effort, 1, 9),
            ("time-limit", self.time_limit_s, 0.01, 1e7),
        ):  # fmt: skip
            if value is not None:
                _within(option, value, low, high)
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"--seed {self.seed}: wanted 0 to 2^32 - 1")

    @property
    def body_or_default(self) -> str:
        if self.prior is not None:
            return self.body or self.prior.body
        return self.body or ("siren" if self.arch == "ensemble" else "cosine")


@dataclass(frozen=True)
class DecodeSettings:
    """Options of `inrcodec decode`: where the field is evaluated. scale, size and rate_hz exclude each other;
    crop and span are in samples of the scaled output, as if cut from it."""

    scale: float | None = None
    size: tuple[int, ...] | None = None  # samples per axis of the output (rows first)
    rate_hz: int | None = None  # sounds
    region: tuple[tuple[int, int], ...] | None = None  # per axis (start, stop) in output samples
    start_s: float | None = None  # sounds
    duration_s: float | None = None
    max_samples: int = MAX_SAMPLES

    def __post_init__(self) -> None:
        if sum(v is not None for v in (self.scale, self.size, self.rate_hz)) > 1:
            raise ValueError("--scale, --size and --rate exclude each other")
        if self.scale is not None and not (0 < self.scale < 1e6):
            raise ValueError(f"--scale {self.scale}: wanted a positive number")
        if self.size is not None and min(self.size) < 1:
            raise ValueError("--size: wanted at least 1 sample on every axis")
        if self.rate_hz is not None and not 1 <= self.rate_hz < 2**31:
            raise ValueError(f"--rate {self.rate_hz}: wanted at least 1 Hz")
        if self.region is not None and (self.start_s is not None or self.duration_s is not None):
            raise ValueError("--crop and --start/--duration exclude each other")


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"--{name} {value}: wanted one of {', '.join(allowed)}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:  # NaN fails as well
        raise ValueError(f"--{name} {value}: wanted {low:g} to {high:g}")
