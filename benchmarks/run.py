"""Measures what docs/benchmarks.md states, and writes it.

    python benchmarks/run.py FOLDER|FILE... [--audio FILE] [--quick] [--only psnr,speed] [-o docs/benchmarks.md]

Results are kept in build/bench-cache.json after every section (and every 50 points), so an interrupted run
continues; our own results are measured anew whenever the source changes, but for sections that --only leaves out, which
say at which source they were measured, and points of files that come out the same (points.py).
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from common import CACHE, ROOT, Cache, Run, file_digest, machine, say, source_digest, table
from enrp_capacity import capacity_section
from facts import facts_section
from rates import effort_section, eyes_section, psnr_section, rates_section
from sound import sound_section
from speed import large_section, speed_section

from inrcodec.bench import find_pictures
from inrcodec.errors import InrError

SECTIONS: dict[str, tuple[str, Callable[[Run], str]]] = {
    "psnr": ("Bytes for the same PSNR", psnr_section),
    "eyes": ("Bytes for the same SSIMULACRA2", eyes_section),
    "effort": ("Other efforts", effort_section),
    "rates": ("Rate and quality, point by point", rates_section),
    "speed": ("Speed and memory, one photo", speed_section),
    "large": ("24 megapixels", large_section),
    "sound": ("Sound", sound_section),
    "capacity": ("An ensemble's capacity", capacity_section),
    "facts": ("Facts", facts_section),
}


def main() -> int:
    args = _arguments()
    chosen = list(SECTIONS) if not args.only else args.only.split(",")
    unknown = [name for name in chosen if name not in SECTIONS]
    if unknown:
        say(f"--only {args.only}: {unknown[0]} is not one of {', '.join(SECTIONS)}")
        return 2
    try:
        pictures = find_pictures(args.pictures or [ROOT / "samples"])
    except InrError as error:
        say(str(error))
        return 2
    if args.audio and not args.audio.exists():
        say(f"{args.audio}: no such file")
        return 2
    pictures = _spread(pictures, 3) if args.quick else pictures
    failures = 0
    bodies: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="inrcodec-bench-") as work:
        run = Run(pictures, args.audio, Path(work), args.quick, args.jobs, Cache(None if args.fresh else CACHE),
                  args.capacity, args.efforts, args.table)  # fmt: skip
        inputs = [file_digest(path) for path in [*pictures, *(p for p in (args.audio, args.capacity, args.table) if p)]]
        for name in SECTIONS:
            key = f"section {name} {source_digest()} {args.quick} {' '.join(inputs)}"
            if name in chosen:
                start = time.perf_counter()
                say(f"{name} …")
                try:
                    bodies[name] = _run_section(run, name, key)
                except Exception as error:  # the other sections are still worth having
                    failures += 1
                    bodies[name] = f"Not measured: {type(error).__name__}: {error}\n"
                    say(f"  {bodies[name].strip()}")
                say(f"  {time.perf_counter() - start:.0f} s")
            elif (kept := run.cache.section(key)) is not None:
                bodies[name] = kept
    _write(args.output, _document(bodies, pictures, args.audio))
    say(f"{args.output} written")
    return 1 if failures else 0


def _run_section(run: Run, name: str, key: str) -> str:
    _, section = SECTIONS[name]
    found = run.cache.get(key)
    if found is None or name in ("psnr", "eyes", "effort", "rates", "facts"):  # cached point by point, or quick
        found = f"{section(run)}\nMeasured {_now()}.\n"
        run.cache.put(key, found)
        run.cache.save()
    return found


def _document(bodies: dict[str, str], pictures: list[Path], audio: Path | None) -> str:
    # absolute paths are of one machine: their last part says what was measured
    arguments = [Path(a).name if Path(a).is_absolute() else a for a in sys.argv[1:]]
    command = shlex.join(["python", "benchmarks/run.py", *arguments])
    facts = [
        ("date", _now()),
        ("command", f"`{command}`"),
        ("pictures", ", ".join(path.name for path in pictures)),
        ("sound", audio.name if audio else "none"),
        *machine(),
    ]
    lines = [
        "# Benchmarks",
        "",
        "Written by `benchmarks/run.py`; do not edit. Every rate is the length of a real file, every quality that of "
        "decoding it (PSNR: over all three channels of the 8-bit RGB picture).",
        "",
        table(("what", "value"), facts),
    ]
    for name, (title, _) in SECTIONS.items():
        if name in bodies:
            lines += [f"## {title}", "", bodies[name]]
    return "\n".join(lines).rstrip() + "\n"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(text)
    beside.replace(path)


def _spread(pictures: list[Path], n: int) -> list[Path]:
    """n of them, evenly spread."""
    return [pictures[i * len(pictures) // n] for i in range(n)] if len(pictures) > n else pictures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures what docs/benchmarks.md states, and writes it.")
    parser.add_argument("pictures", nargs="*", type=Path, metavar="FOLDER|FILE", help="default: samples/")
    parser.add_argument("--audio", type=Path, help="a sound for the section sound")
    parser.add_argument("--capacity", type=Path, help="a picture for the section capacity")
    parser.add_argument("--table", type=Path, help="a codec's own points in PSNR, tab-separated, to compare with")
    parser.add_argument(
        "--efforts", type=lambda text: tuple(map(int, text.split(","))), default=(1,), metavar="N,…",
        help="beside the default; 1 where nothing is said, for 9 takes hours",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="three pictures, every other quality, fewer repeats")
    parser.add_argument(
        "--only", metavar="NAMES", help=f"some of {','.join(SECTIONS)}; others are kept, and name their source"
    )
    parser.add_argument("--fresh", action="store_true", help="neither read nor write build/bench-cache.json")
    parser.add_argument("-j", "--jobs", type=int, default=2, help="processes for rates (never for times); default 2")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs" / "benchmarks.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
