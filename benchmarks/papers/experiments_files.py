"""The four works as codecs: files of three photos and a sound, by commands that anyone can type."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import ROOT
from experiment import Experiment, Options, Outcome, markdown
from PIL import Image
from sound import sound_peers

from inrcodec import api
from inrcodec.metrics import psnr, snr
from inrcodec.peers import peer

PHOTOS = ("kodim03.png", "kodim13.png", "kodim23.png")
BITS_PER_PIXEL = 0.6
KBIT_PER_S = 48.0
DEFAULT = "**default** (cosines)"
FOUR = ("ENRP", "MH-ReLU", "Meta-SparseINR", "Partition")
PRIOR = ROOT / "build" / "papers" / "photos.inp"
ROWS = PRIOR.with_name("files-rows.json")
TRAIN = "--patch 64 --width 40 --depth 2 --sparsity 0.85 --rounds 8 --outer-steps 1500 --steps-per-round 100"


@dataclass(frozen=True)
class System:
    """picture, sound: options of `inrcodec encode`, "" where the system has no such thing. FOUND and PRIOR stand for
    the result of `search` and the prior that `prepare` made."""

    label: str
    picture: str
    sound: str


SYSTEMS = (
    System(DEFAULT, "--tune psnr", "--tune psnr"),
    System("ENRP, SIREN per cell", "--arch ensemble --iterations 400", "--arch ensemble --iterations 400"),
    System("ENRP, Algorithm 1", "--search FOUND --iterations 400", "--search FOUND --iterations 400"),
    System("MH-ReLU, dense heads", "--body relu --iterations 10000", "--body relu --iterations 10000"),
    System("MH-ReLU, sparse heads", "--body relu --connections 8", "--body relu --connections 8"),
    System("multi-head SIREN (ours)", "--body siren --iterations 10000", "--body siren --iterations 10000"),
    System("Meta-SparseINR", "--prior PRIOR --iterations 150", ""),
    System("Partition, grid (PoG)", "--partition grid --grid 3 --iterations 120", ""),
    System("Partition, segments (PoS)", "--partition segments --grid 3 --iterations 120", ""),
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """photos: how many. shorter: options that fits have less of. train: options that the prior's training has more."""

    photos: int = 3
    shorter: tuple[tuple[str, str], ...] = ()
    train: str = ""


def files(options: Options, sizes: Sizes) -> Outcome:
    """Every system on every signal at the same bytes."""
    photos, sound = _signals(options)
    photos = photos[: sizes.photos]
    sections, best, default = [], {}, {}
    with tempfile.TemporaryDirectory(prefix="inrcodec-papers-") as folder:
        work = Path(folder)
        prior_s = _prior(options, sizes.train)
        for path in (*photos, sound):
            is_sound = path == sound
            rows = list(_rows(path, sizes, is_sound=is_sound, work=work, options=options))
            head = ("codec", "options", "bytes", "SNR dB" if is_sound else "PSNR dB", "encode s", "decode s")
            sections.append(f"### {path.name}\n\n{markdown(head, [r.cells for r in rows])}")
            default[path.name] = next(r for r in rows if r.label == DEFAULT)
            works = [r for r in rows if r.label.startswith(FOUR)]
            best[path.name] = max(works, key=lambda r: r.quality)
    lead = {name: default[name].quality - row.quality for name, row in best.items()}
    body = (
        f"Commands `inrcodec encode FILE OPTIONS --target-size BYTES`, {BITS_PER_PIXEL} bits per pixel and "
        f"{KBIT_PER_S:g} kbit/s; options were the best of a few tried on kodim23 and the clip. PSNR: ordinary, 8 bit, "
        "clamped, of what the file decodes to; sounds: SNR, for which Opus, made for ears, does not aim. Seconds are "
        "of whole processes on one core, start included. The prior was trained once, on other photos, in "
        f"{prior_s:.0f} s: `inrcodec prior train PHOTOS -o photos.inp {TRAIN}`. ENRP's search comes on top of its "
        "encode time; it has α = 1, for at 7 it takes networks too small for these bytes.\n\n" + "\n".join(sections)
        + "\nThe default's lead over the best of the four works at equal bytes: "
        + ", ".join(f"{lead[n]:+.1f} dB on {n} ({best[n].label})" for n in lead) + ".\n"
    )  # fmt: skip
    ours = f"default ahead of the best of the four by {min(lead.values()):.1f} to {max(lead.values()):.1f} dB"
    return Outcome(ours, body, ())


@dataclass(frozen=True)
class _Row:
    label: str
    options: str
    n_bytes: int
    quality: float
    encode_s: float
    decode_s: float

    @property
    def cells(self) -> tuple[str, ...]:
        options = f"`{self.options}`" if self.options else "–"
        return (self.label, options, f"{self.n_bytes:,}", f"{self.quality:.2f}", f"{self.encode_s:.2f}",
                f"{self.decode_s:.2f}")  # fmt: skip


def _rows(path: Path, sizes: Sizes, *, is_sound: bool, work: Path, options: Options) -> Iterator[_Row]:
    target = _target(path, is_sound)
    kept = _kept()
    yield _opus(path, target, work) if is_sound else _jpeg(path, target)
    for system in SYSTEMS:
        words = system.sound if is_sound else system.picture
        if not words:
            continue
        for long, short in sizes.shorter:
            words = words.replace(long, short)
        key = f"{path.name} {target} {system.label} {words}"
        if key in kept:
            yield _Row(*kept[key])
            continue
        if "FOUND" in words and not (work / f"{path.stem}.search.json").exists():
            _search(path, is_sound, work, options)
        out = work / "out.inr"
        real = words.replace("FOUND", str(work / f"{path.stem}.search.json")).replace("PRIOR", str(PRIOR))
        encode_s = _inrcodec(f"encode {path} -o {out} -f --target-size {target} {real}", work)
        back = work / ("out.wav" if is_sound else "out.png")
        decode_s = _inrcodec(f"decode {out} -o {back} -f {f'--prior {PRIOR}' if '--prior' in words else ''}", work)
        facts = api.compare(str(path), str(back))
        quality = facts["snr_db"] if is_sound else facts["psnr_db"]
        row = _Row(system.label, words.replace("PRIOR", PRIOR.name).replace("FOUND", "FILE"), out.stat().st_size,
                   float(quality), encode_s, decode_s)  # fmt: skip
        ROWS.write_text(json.dumps(_kept() | {key: astuple(row)}))
        options.say(f"  {path.name}: {row.label}: {row.n_bytes} bytes, {row.quality:.2f} dB, {row.encode_s:.1f} s")
        yield row


def _kept() -> dict[str, list[Any]]:
    """Rows of an earlier run that was cut."""
    return json.loads(ROWS.read_text()) if ROWS.exists() else {}


def _search(path: Path, is_sound: bool, work: Path, options: Options) -> None:
    """Algorithm 1, for about as many weights as the bytes pay."""
    found = work / f"{path.stem}.search.json"
    grid = "216 --max-flops 100M" if is_sound else "16x10 --max-flops 120M"
    _inrcodec(f"search {path} -o {found} --grid {grid} --repeats 1 --iterations 60 --widths 3,4,5,6,7,8,10 "
              "--depths 0-3 --start 8x2 --alpha 1", work)  # fmt: skip
    chosen = json.loads(found.read_text())["result"]
    options.say(f"  search: width {chosen['width']}, depth {chosen['depth']}")


def _inrcodec(command: str, work: Path) -> float:
    """Runs a command of the package; seconds of the whole process. Raises RuntimeError with what it said."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "inrcodec", *shlex.split(command), "--no-progress"], capture_output=True, text=True,
        check=False, cwd=work,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"inrcodec {command}: exit code {done.returncode}: {done.stderr.strip()}")
    return time.perf_counter() - started


def _target(path: Path, is_sound: bool) -> int:
    if is_sound:
        import soundfile

        return int(KBIT_PER_S * 125 * soundfile.info(path).duration)
    with Image.open(path) as picture:
        return int(BITS_PER_PIXEL * picture.width * picture.height / 8)


def _jpeg(path: Path, target: int) -> _Row:
    """The best quality that fits."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    jpeg = peer("jpeg")
    fitting = [q for q in range(1, 96) if len(jpeg.encode(pixels, q)) <= target]
    started = time.perf_counter()
    data = jpeg.encode(pixels, max(fitting, default=1))
    encode_s = time.perf_counter() - started
    decoded = jpeg.decode(data)
    decode_s = time.perf_counter() - started - encode_s
    return _Row(jpeg.label, "", len(data), psnr(decoded=decoded, original=pixels, peak=255), encode_s, decode_s)


def _opus(path: Path, target: int, work: Path) -> _Row:
    """The level nearest to the target in bytes; Opus spends them for ears, not for SNR."""
    import soundfile

    samples, rate_hz = soundfile.read(path, dtype="float64", always_2d=True)
    started = time.perf_counter()
    made = [p for p in sound_peers(work, samples, rate_hz) if p[0].startswith("Opus")]
    seconds = (time.perf_counter() - started) / max(1, len(made))
    label, n_bytes, decoded = min(made, key=lambda p: abs(p[1] - target))
    return _Row(label, "", n_bytes, snr(decoded=decoded, original=samples), seconds, 0.0)


def _prior(options: Options, steps: str) -> float:
    """Trains the photos' prior where it is not there; seconds it took, then or now."""
    facts = PRIOR.with_suffix(".json")
    if PRIOR.exists() and facts.exists():
        return float(json.loads(facts.read_text())["seconds"])
    PRIOR.parent.mkdir(parents=True, exist_ok=True)
    photos = sorted((options.data / "photos").glob("*.jpg")) if options.data is not None else []
    train = [p.resolve() for p in photos] or [ROOT / "samples" / "coffee.png"]
    seconds = _inrcodec(f"prior train {shlex.join(map(str, train))} -o {PRIOR} -f {TRAIN} {steps}", PRIOR.parent)
    facts.write_text(json.dumps({"seconds": seconds}))
    return seconds


def _signals(options: Options) -> tuple[list[Path], Path]:
    """Three photos and the Bach clip, or the samples."""
    samples = ROOT / "samples"
    photos, sound = [samples / "coffee.png"], samples / "guit_harmonics.flac"
    if options.data is not None:
        kodak = [options.data / "kodak" / name for name in PHOTOS]
        photos = [p.resolve() for p in kodak if p.exists()] or photos
        bach = options.data / "audio" / "gt_bach.wav"
        sound = bach.resolve() if bach.exists() else sound
    return photos, sound


EXPERIMENTS = (
    Experiment(
        (0,), "files", "Each system as a codec", "none of the four writes a file", files,
        {"quick": Sizes(1, ((" --iterations 10000", ""), (" --iterations 400", " --iterations 60")),
                        "--outer-steps 100 --steps-per-round 10"), "full": Sizes()}, "whole",
    ),
)  # fmt: skip
