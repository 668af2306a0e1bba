"""What the commands share: option types and groups, where inputs and outputs are, and what may be overwritten."""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from inrcodec import __version__
from inrcodec.errors import InrError
from inrcodec.settings import MAX_SAMPLES

if TYPE_CHECKING:
    from inrcodec.reader import Reader

__all__ = [
    "SIZE",
    "How",
    "check_input",
    "claim_output",
    "find_inputs",
    "human_bytes",
    "human_flops",
    "input_args",
    "job_options",
    "limit_option",
    "naming_input",
    "naming_output",
    "output_options",
    "prior_option",
    "open_inr",
    "refuse_collisions",
    "say",
    "shown",
    "version_option",
    "wants_folder",
]

STREAM = "-"
MAX_WORKERS = 4  # for one file, where nobody says how many: each takes memory


class _Bytes(click.ParamType[int]):
    """40000, 40k (1,000) or 40KiB (1,024)."""

    name = "SIZE"
    _FACTORS = (("kib", 2**10), ("mib", 2**20), ("kb", 1e3), ("mb", 1e6), ("k", 1e3), ("m", 1e6), ("b", 1), ("", 1))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        text = value.strip().lower()
        suffix, factor = next((s, f) for s, f in self._FACTORS if text.endswith(s))
        with contextlib.suppress(ValueError, OverflowError):
            n = int(float(text.removesuffix(suffix)) * factor)
            if n >= 1:
                return n
        self.fail(f"{value!r} is not a size such as 40000, 40k or 40KiB", param, ctx)


SIZE = _Bytes()


@dataclass(frozen=True)
class How:
    """The options that every command which works on files one by one has. progress: None where stderr decides."""

    force: bool = False
    no_overwrite: bool = False
    recursive: bool = False
    jobs: int | None = None  # None: files one by one, tiles of a large one on up to MAX_WORKERS cores
    progress: bool | None = None
    quiet: bool = False
    verbose: bool = False

    def of(self, n_files: int, *, one_by_one: bool = False) -> tuple[int, int]:
        """(files at a time, processes for the tiles of each)"""
        if self.jobs is None:
            return 1, min(_cores(), MAX_WORKERS)
        files = 1 if one_by_one else min(self.jobs, n_files)
        return files, 1 if files > 1 else self.jobs


def version_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.version_option(__version__, "-V", "--version", prog_name="inrcodec")(command)


def limit_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --max-pixels as max_pixels."""
    return click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        default=MAX_SAMPLES,
        show_default=True,
        metavar="N",
        help="Refuse what is larger (values: pixels times channels).",
    )(command)


def prior_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --prior, which files made with one need again."""
    return click.option(
        "--prior",
        metavar="FILE",
        help="The prior the file was encoded with, where it was.  [from the folders in INRCODEC_PRIORS]",
    )(command)


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds -r, -j, --progress, --quiet, -v, -V and hands them over as how=How(…)."""

    @functools.wraps(command)
    def run(
        *, recursive: bool, jobs: int | None, progress: bool | None, quiet: bool, verbose: bool,
        force: bool = False, no_overwrite: bool = False, **others: Any,
    ) -> Any:  # fmt: skip
        if force and no_overwrite:
            raise click.UsageError("-f/--force and -n/--no-overwrite exclude each other")
        jobs = _cores() if jobs == 0 else jobs
        return command(how=How(force, no_overwrite, recursive, jobs, progress, quiet, verbose), **others)

    options = (
        click.option("-r", "--recursive", is_flag=True, help="Take folders, with the files in them."),
        click.option(
            "-j",
            "--jobs",
            type=click.IntRange(0, 1024),
            metavar="N",
            help="Use N processes, on several files at a time or on the parts of a large one; 0 for one per core."
            "  [default: one file at a time, its parts on up to 4 cores]",
        ),
        click.option("--progress/--no-progress", default=None, help="Show progress.  [if stderr is a terminal]"),
        click.option("--quiet", is_flag=True, help="Only say what goes wrong."),
        click.option("-v", "--verbose", is_flag=True, help="Say more about what was done."),
        version_option,
    )
    return functools.reduce(lambda made, option: option(made), reversed(options), run)


def output_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """job_options, with -f and -n before them."""
    options = (
        click.option("-f", "--force", is_flag=True, help="Overwrite existing outputs."),
        click.option("-n", "--no-overwrite", is_flag=True, help="Leave existing outputs alone, without an error."),
    )
    return functools.reduce(lambda made, option: option(made), reversed(options), job_options(command))


def input_args(name: str, metavar: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.argument(name, nargs=-1, required=True, metavar=metavar)


def say(text: str) -> None:
    """A line for people: stderr, so that stdout stays data."""
    click.echo(text, err=True)


def shown(name: str, *, stream: Literal["input", "output"] = "input") -> str:
    return f"standard {stream}" if name == STREAM else name


def human_bytes(n: int) -> str:
    """1234567 -> '1.23 MB'"""
    if n < 1000:
        return f"{n} B"
    value, unit = (n / 1000, "kB") if n < 1e6 else (n / 1e6, "MB")
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def human_flops(n: float) -> str:
    """557842950 -> '557.84 M'"""
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= factor:
            return f"{n / factor:.2f} {unit}"
    return f"{n:.0f}"


def find_inputs(
    sources: Sequence[str], recursive: bool, wanted: Callable[[Path], bool] = lambda _: True
) -> list[tuple[str, Path]]:
    """Files to work on, each with the path of its output relative to an output folder. With recursive, folders are
    replaced by the wanted files in them. Raises ValueError where nothing is left."""
    found: list[tuple[str, Path]] = []
    for source in sources:
        path = Path(source)
        if recursive and source != STREAM and path.is_dir():
            inside = sorted(p for p in path.rglob("*") if wanted(p) and p.is_file())
            found += [(str(p), p.relative_to(path)) for p in inside]
        else:
            found.append((source, Path(path.name)))
    if not found:
        raise ValueError(f"{', '.join(sources)}: no files of a known kind in there")
    if sum(source == STREAM for source, _ in found) > 1:
        raise ValueError("- can be given once: there is one standard input")
    return found


def check_input(source: str) -> None:
    """Raises OSError for a file that is not there, a folder, or one that may not be read, ValueError for a terminal."""
    if source == STREAM:
        if sys.stdin is None or sys.stdin.isatty():
            raise ValueError("standard input is a terminal; name a file, or pipe one in")
        return
    mode = os.stat(source).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "is a directory; -r takes the files in it", source)
    if stat.S_ISREG(mode):  # reading from a pipe would take its bytes away
        with open(source, "rb"):
            pass


def wants_folder(output: str | None, n_files: int) -> bool:
    """Whether the output is a folder. Raises ValueError where several files would go to one place."""
    if output is None or output == STREAM:
        if output == STREAM and n_files > 1:
            raise ValueError("several files cannot all go to standard output")
        return False
    folder = output.endswith(("/", os.sep)) or Path(output).is_dir()
    if n_files > 1 and not folder:
        raise ValueError(f"{output}: several files need a folder; write {output}/")
    return folder


def refuse_collisions(targets: Iterable[tuple[str, str]]) -> None:
    """targets: pairs (source, target). Raises ValueError where two sources would become one file."""
    seen: dict[str, str] = {}
    for source, target in targets:
        place = os.path.abspath(target)
        if target != STREAM and place in seen:
            raise ValueError(f"{seen[place]} and {source} would both become {target}")
        seen[place] = source


def claim_output(source: str, target: str, how: How, *, kind: str, folder: bool) -> bool:
    """Looks before the work whether target may be written: False where it is to be left out (-n). With folder, the
    folders above it are made. Raises ValueError, OSError."""
    if target == STREAM:
        if sys.stdout.isatty():
            raise ValueError(f"{kind} is not for a terminal; -o FILE writes it")
        return True
    path = Path(target)
    if source != STREAM and path.exists() and path.samefile(source):
        raise ValueError(f"{target} is the input itself; -o names another file")
    if path.is_dir():
        raise IsADirectoryError(21, "is a directory", target)
    if path.is_file() and not how.force:
        if not how.no_overwrite:
            raise FileExistsError(17, "exists", target)
        if not how.quiet:
            say(f"{target} exists, left alone")
        return False
    if folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    elif not path.parent.exists():
        raise FileNotFoundError(2, "no such folder", str(path.parent))
    if not path.exists() and not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(13, "not writable", str(path.parent))
    return True


@contextlib.contextmanager
def open_inr(source: str, *, partial: bool = False, prior: str | None = None) -> Iterator[Reader]:
    """The .inr file of this path, or on standard input; our errors inside say its name."""
    from inrcodec import api

    check_input(source)
    with naming_input(source):
        # standard input, and pipes like <(command), cannot seek
        direct = source != STREAM and stat.S_ISREG(os.stat(source).st_mode)
        with api.open(source if direct else _read_all(source), partial=partial, prior=prior) as reader:
            yield reader


def _read_all(source: str) -> bytes:
    if source == STREAM:
        return sys.stdin.buffer.read()
    return Path(source).read_bytes()


@contextlib.contextmanager
def naming_input(source: str) -> Iterator[None]:
    """Puts the source in front of what our errors, and calls that do not fit it, say."""
    try:
        yield
    except (InrError, ValueError) as error:
        text, name = str(error), shown(source)
        if text.startswith(f"{name}: "):
            raise
        kind = type(error) if isinstance(error, InrError) else ValueError
        raise kind(f"{name}: {text}") from None


@contextlib.contextmanager
def naming_output(target: str) -> Iterator[None]:
    """System errors while writing name the target, not the nameless file beside it."""
    try:
        yield
    except OSError as error:
        error.filename = shown(target, stream="output")
        error.filename2 = None
        raise


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
