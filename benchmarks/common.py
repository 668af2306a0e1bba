"""What the sections share: the context of a run, the cache, commands with their time and memory, tables."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import inrcodec
from inrcodec.bench import PEAK, Point

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / "build" / "bench-cache.json"  # build/ is ignored by git
SLOW_EFFORT = 7  # from here on a file takes a minute


@dataclass
class Run:
    """One run of the benchmarks. pictures: files to measure; quick: fewer pictures, points and repetitions."""

    pictures: list[Path]
    sound: Path | None
    work: Path  # a folder for temporary files
    quick: bool = False
    jobs: int = 2
    cache: Cache = field(default_factory=lambda: Cache(None))
    capacity: Path | None = None  # a picture for the section of that name
    efforts: tuple[int, ...] = (1,)  # beside the default
    table: Path | None = None  # a codec's own points, see read_table

    @property
    def repeats(self) -> int:
        return 3 if self.quick else 5


def read_table(path: Path, photos: list[Path]) -> list[Point]:
    """A codec's own points in PSNR, under the name of the file, of those photos that it has: tab-separated columns
    seq_name, n_pixels, psnr_db, rate_bpp."""
    names = {photo.stem: photo.name for photo in photos}
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["seq_name"] in names]
    return [
        Point(
            codec=path.stem,
            file=names[row["seq_name"]],
            setting=float(i),
            n_bytes=round(float(row["rate_bpp"]) * int(row["n_pixels"]) / 8),
            n_pixels=int(row["n_pixels"]),
            mse=PEAK**2 / 10 ** (float(row["psnr_db"]) / 10),
            encode_s=0.0,
            decode_s=0.0,
        )
        for i, row in enumerate(rows)
    ]


class Cache:
    """Results by key, on disk after every one, so that an interrupted run continues. Keys of anything that our
    own code computed hold the digest of that code."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        if path and path.exists():
            try:
                self.values = json.loads(path.read_text())
            except ValueError:
                say(f"{path}: not readable as JSON, starting anew")

    def get(self, key: str) -> Any:
        return self.values.get(key)

    def put(self, key: str, value: Any) -> None:
        self.values.pop(key, None)  # what was measured last stands last
        self.values[key] = value

    def section(self, key: str) -> str | None:
        """The section of this key, `section NAME SOURCE INPUTS`, or the one measured last of the same inputs at another
        source, which it then names."""
        if (own := self.get(key)) is not None:
            return str(own)
        _, wanted, _, inputs = key.split(" ", 3)
        for other, text in reversed(self.values.items()):
            kind, name, source, *rest = other.split(" ", 3)
            if (kind, name, rest) == ("section", wanted, [inputs]):
                return f"{text.rstrip()} That was at source {source}.\n"
        return None

    def save(self) -> None:
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.path.with_suffix(".part")
            beside.write_text(json.dumps(self.values))
            beside.replace(self.path)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@cache
def source_digest() -> str:
    """Of everything that decides our bytes: a change of code makes our own cached results stale."""
    digest = hashlib.sha256()
    for folder in ("inrcodec", "formats", "cli"):
        for path in sorted((ROOT / folder).rglob("*")):
            own = {"bench.py", "peers.py", "metrics.py"}  # measure, and decide no bytes
            if path.is_file() and path.suffix in (".py", ".npy", ".npz") and path.name not in own:
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


@cache
def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def timed(command: Sequence[str | Path], *, repeats: int = 1) -> dict[str, float]:
    """Median wall time [s] and largest peak memory [MiB] of a whole process, over repeats after none to warm up.

    Raises RuntimeError where it exits with anything but 0.
    """
    text = [str(part) for part in command]
    program = shutil.which(text[0])
    if program is None:
        raise RuntimeError(f"{text[0]}: no such program")
    launcher = [sys.executable, "-S", "-I", str(ROOT / "benchmarks" / "launch.py"), program, *text[1:]]
    results = []
    for _ in range(repeats):
        done = subprocess.run(launcher, capture_output=True, text=True, check=False)
        result = json.loads(done.stdout) if done.stdout else {"code": done.returncode}
        if result["code"]:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RuntimeError(f"{' '.join(text)}: exit code {result['code']}: {last}")
        results.append(result)
    return {"seconds": median(r["seconds"] for r in results), "peak_mib": max(r["peak_mib"] for r in results)}


def inrcodec_program() -> str:
    """The console script of the environment that runs this."""
    beside = Path(sys.executable).with_name("inrcodec")
    return str(beside) if beside.exists() else "inrcodec"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Markdown; the first column left, the others right."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)]) + "\n"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f} %".replace("-", "−")


def machine() -> list[tuple[str, str]]:
    """Facts about where this ran: (name, value)."""
    from PIL import features

    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "absent"

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = ("numpy", "torch", "constriction", "pillow", "imagecodecs", "ssimulacra2", "soundfile", "scipy")
    libraries = ("libjpeg_turbo", "webp", "avif")
    return [
        ("CPU", _cpu()),
        ("cores", str(cores)),
        ("RAM", _ram()),
        ("system", platform.platform()),
        ("Python", platform.python_version()),
        ("inrcodec", f"{inrcodec.__version__}, source {source_digest()}"),
        ("packages", ", ".join(f"{name} {version(name)}" for name in packages)),
        ("libraries in Pillow", ", ".join(f"{name} {features.version(name)}" for name in libraries)),
        ("threads", f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}"),
    ]


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _ram() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (ValueError, OSError, AttributeError):
        return "unknown"
