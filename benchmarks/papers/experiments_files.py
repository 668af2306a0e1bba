"""The four works as codecs: files of three photos and a sound, by commands that anyone can type."""

from __future__ import annotations

import hashlib
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from common import ROOT, file_digest, source_digest
from experiment import Experiment, Options, Outcome, markdown
from inrcodec.formats.files import write_atomically
from keep import Made, Store, Watch
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
KEPT = ROOT / "build" / "papers" / "files"  # rows and priors, by all that decides them
# files of `prior train` on the photos or on a sample sound, and its options
LENGTH = "--outer-steps 1500 --steps-per-round 100"
TRAIN = f"--patch 64 --width 40 --depth 2 --sparsity 0.85 --rounds 8 {LENGTH}"
PRIORS = {
    "photos.inp": TRAIN,
    "parted.inp": f"{TRAIN} --partition 2 --batch 1",
    "sounds.inp": f"--patch 1024 --width 16 --depth 2 --sparsity 0.6 --rounds 4 {LENGTH}",
}
SOUND = ROOT / "samples" / "guit_harmonics.flac"
# Algorithm 1, for about as many weights as the bytes pay: of pictures, of sounds
SEARCH = "--repeats 1 --iterations 60 --widths 3,4,5,6,7,8,10 --depths 0-3 --start 8x2 --alpha 1"
BOUNDS = ("--grid 16x10 --max-flops 120M", "--grid 216 --max-flops 100M")


@dataclass(frozen=True)
class System:
    """picture, sound: options of `inrcodec encode`, "" where the system has no such thing. FOUND stands for the result
    of `search`, a name of PRIORS for that prior."""

    label: str
    picture: str
    sound: str


SYSTEMS = (
    System(DEFAULT, "--tune psnr", "--tune psnr"),
    System("ENRP, SIREN per cell", "--arch ensemble --iterations 1000", "--arch ensemble --iterations 1000"),
    System("ENRP, Algorithm 1", "--search FOUND --iterations 1000", "--search FOUND --iterations 1000"),
    System("MH-ReLU, dense heads", "--body relu --iterations 10000", "--body relu --iterations 10000"),
    System("MH-ReLU, sparse heads", "--body relu --connections 8 --iterations 10000",
           "--body relu --connections 8 --iterations 10000"),
    System("multi-head SIREN (ours)", "--body siren --iterations 10000", "--body siren --iterations 10000"),
    System("Meta-SparseINR", "--prior photos.inp --iterations 300", "--prior sounds.inp --iterations 1000"),
    System("Partition, grid (PoG)", "--partition grid --grid 3 --iterations 300",
           "--partition grid --grid 8 --iterations 300"),
    System("Partition, segments (PoS)", "--partition segments --grid 3 --iterations 300", ""),
    System("Partition, learned start", "--prior parted.inp --iterations 300", ""),
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
        store = replace(options.store, folder=KEPT)
        trained = {name: f"{words} {sizes.train}".strip() for name, words in PRIORS.items()}
        priors = {name: _prior(store, options.data, name, words) for name, words in trained.items()}
        for path in (*photos, sound):
            is_sound = path == sound
            rows = list(_rows(path, sizes, is_sound=is_sound, work=work, priors=priors, store=store))
            head = ("codec", "options", "bytes", "SNR dB" if is_sound else "PSNR dB", "encode s", "decode s")
            sections.append(f"### {path.name}\n\n{markdown(head, [r.cells for r in rows])}")
            default[path.name] = next(r for r in rows if r.label == DEFAULT)
            works = [r for r in rows if r.label.startswith(FOUR)]
            best[path.name] = max(works, key=lambda r: r.quality)
    lead = {name: default[name].quality - row.quality for name, row in best.items()}
    body = (
        f"Commands `inrcodec encode FILE OPTIONS --target-size BYTES`, {BITS_PER_PIXEL} bits per pixel and "
        f"{KBIT_PER_S:g} kbit/s; networks and grids were the best of a few tried on kodim23 and the clip. PSNR: "
        "ordinary, 8 bit, clamped, of what the file decodes to; sounds: "
        "SNR, for which Opus, made for ears, does not aim. Seconds are of whole processes on one core, start included. "
        "Priors were trained once, on other photos, with `inrcodec prior train PHOTOS -o FILE OPTIONS`, that of the "
        f"clip on samples/{SOUND.name}, the only other mono sound here, of a guitar: "
        + "; ".join(f"{name} in {p.seconds:.0f} s, `{p.options}`" for name, p in priors.items())
        + ". ENRP's search comes on top of "
        "its encode time; it has α = 1, for at 7 it takes networks too small for these bytes.\n\n"
        + "\n".join(sections)
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


@dataclass(frozen=True)
class _Prior:
    """options: of `prior train`. seconds: it took, then or now."""

    path: Path
    options: str
    seconds: float


def _rows(
    path: Path, sizes: Sizes, *, is_sound: bool, work: Path, priors: dict[str, _Prior], store: Store
) -> Iterator[_Row]:
    target = _target(path, is_sound)
    yield _opus(path, target, work) if is_sound else _jpeg(path, target)
    for system in SYSTEMS:
        words = system.sound if is_sound else system.picture
        if not words:
            continue
        for long, short in sizes.shorter:
            words = words.replace(long, short)
        prior = next((p.path for name, p in priors.items() if name in words), None)
        meant = [prior and prior.parent.name, *[BOUNDS[is_sound], SEARCH] * ("FOUND" in words)]
        key = (file_digest(path), target, system.label, words, meant, source_digest())

        def make(_: Watch, label: str = system.label, words: str = words, prior: Path | None = prior) -> _Row:
            return _row(label, words, path, target, is_sound=is_sound, work=work, prior=prior)

        yield store.result(f"{path.name}: {system.label}", key, make, lambda kept: _Row(**kept))


def _row(label: str, words: str, path: Path, target: int, *, is_sound: bool, work: Path, prior: Path | None) -> _Row:
    found = work / f"{path.stem}.search.json"
    if "FOUND" in words:
        _inrcodec(f"search {path} -o {found} -f {BOUNDS[is_sound]} {SEARCH}", work)
    out, back = work / "out.inr", work / ("out.wav" if is_sound else "out.png")
    real = words.replace("FOUND", str(found))
    if prior is not None:
        real = real.replace(prior.name, str(prior))
    encode_s = _inrcodec(f"encode {path} -o {out} -f --target-size {target} {real}", work)
    decode_s = _inrcodec(f"decode {out} -o {back} -f {f'--prior {prior}' if prior else ''}", work)
    facts = api.compare(str(path), str(back))
    quality = float(facts["snr_db"] if is_sound else facts["psnr_db"])
    return _Row(label, words.replace("FOUND", "FILE"), out.stat().st_size, quality, encode_s, decode_s)


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


def _prior(store: Store, data: Path | None, name: str, words: str) -> _Prior:
    """Trains a prior of photos or of a sound, where no run of this code, these signals and options has left it."""
    assert store.folder is not None
    photos = sorted((data / "photos").glob("*.jpg")) if data is not None else []
    train = [p.resolve() for p in photos] or [ROOT / "samples" / "coffee.png"]
    if name.startswith("sounds"):
        train = [SOUND]
    key = repr((words, *map(file_digest, train), source_digest()))
    path = store.folder / hashlib.sha256(key.encode()).hexdigest()[:24] / name
    facts = path.with_suffix(".json")
    if path.exists() and facts.exists():
        made = Made(**json.loads(facts.read_text()))
        store.used(path.parent.name, made)
        return _Prior(path, words, made.seconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    seconds = _inrcodec(f"prior train {shlex.join(map(str, train))} -o {path} -f {words}", path.parent)
    write_atomically(facts, json.dumps(asdict(Made(seconds, store.machine))).encode(), overwrite=True)
    return _Prior(path, words, seconds)


def _signals(options: Options) -> tuple[list[Path], Path]:
    """Three photos and the Bach clip, or the samples."""
    samples = ROOT / "samples"
    photos, sound = [samples / "coffee.png"], SOUND
    if options.data is not None:
        kodak = [options.data / "kodak" / name for name in PHOTOS]
        photos = [p.resolve() for p in kodak if p.exists()] or photos
        bach = options.data / "audio" / "gt_bach.wav"
        sound = bach.resolve() if bach.exists() else sound
    return photos, sound


EXPERIMENTS = (
    Experiment(
        (0,), "files", "Each system as a codec", "none of the four writes a file", files,
        {"quick": Sizes(1, ((" --iterations 10000", ""), (" --iterations 1000", " --iterations 60"),
                            (" --iterations 300", " --iterations 30")),
                        "--outer-steps 100 --steps-per-round 10"), "full": Sizes()}, "whole",
    ),
)  # fmt: skip
