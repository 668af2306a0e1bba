"""Runs the experiments of the four works and writes docs/papers.md.

    python benchmarks/papers/run.py [NAME...] [--data FOLDER] [--quick | --paper] [--device auto] [--tf32] [--list]

Every outcome is kept in docs/papers/NAME.json, one of each size; the page shows the largest that was run, and
NAME.note.md, written by hand, behind it. NAME: an experiment's name, or a prefix of it; none: all. --paper runs the
paper's own size, hours to months: it can be cut at any time, and goes on where it was from build/papers/NAME
(NAME-tf32 with --tf32, meta-*: build/papers), to be deleted to begin anew. --page only writes the page anew.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))  # for common, beside this folder

import numpy as np
from common import ROOT, machine, say, table
from experiment import SIZES, Experiment, Options
from keep import Store

DOCS = ROOT / "docs"
RESULTS = DOCS / "papers"
WORK = ROOT / "build" / "papers"
MODULES = (
    "enrp", "enrp_sweeps", "search", "multihead", "spectral", "metasparse", "metasignals", "metapartition", "partition",
    "files",
)  # fmt: skip
N_ROWS = 21  # of the summary; row 0 is the comparison as codecs, which ends the page


def experiments() -> list[Experiment]:
    from importlib import import_module

    return [e for name in MODULES for e in import_module(f"experiments_{name}").EXPERIMENTS]


def main() -> int:
    args = _arguments()
    every = experiments()
    if args.tf32:
        _allow_tf32()
    if args.list:
        for e in every:
            cost = f" (--paper: {e.cost})" if e.cost else ""
            print(f"{e.name:28} rows {', '.join(map(str, e.rows))}: {e.title}{cost}")
        return 0
    chosen = [] if args.page else [e for e in every if not args.names or any(e.name.startswith(n) for n in args.names)]
    unknown = [n for n in args.names if not any(e.name.startswith(n) for e in every)]
    if unknown:
        say(f"{unknown[0]}: no experiment of that name; --list lists them")
        return 2
    crashed, missed = 0, list[str]()
    for experiment in chosen:
        size = experiment.nearest(args.size)
        folder = WORK / f"{experiment.name}{'-tf32' * args.tf32}" if size == "paper" else None
        say(f"{experiment.name}, size {size} …")
        started = time.perf_counter()
        try:
            store = Store(folder, say, _machine(args))
            outcome = experiment.run(Options(args.data, args.device, args.seed, say, store), experiment.sizes[size])
        except KeyboardInterrupt:
            say(f"  cut; the same command goes on from {folder}" if folder else "  cut")
            return 130
        except Exception as error:  # the others are still worth having
            crashed += 1
            say(f"  {type(error).__name__}: {error}")
            if args.debug:
                raise
            continue
        seconds = time.perf_counter() - started + sum(made.seconds for made in store.earlier)
        known = [made for made in store.earlier if made.seconds]  # others say neither how long they took nor where
        machines = dict.fromkeys([made.machine for made in known if made.machine] or [store.machine])
        for name, draw in outcome.plots.items():
            RESULTS.mkdir(parents=True, exist_ok=True)
            draw(RESULTS / name)
        _keep(experiment.name, size, {
            "ours": outcome.ours, "body": outcome.body, "checks": [asdict(c) for c in outcome.checks],
            "seconds": seconds, "partial": len(known) < len(store.earlier),
            "date": datetime.now(UTC).strftime("%Y-%m-%d"), "device": args.device,
            "command": _command(experiment.name, size, args), "machine": " and ".join(machines),
        })  # fmt: skip
        say(f"  {outcome.ours}; {seconds:.0f} s")
        for check in outcome.checks:
            told = f"{check.claim}: {check.measured}"
            say(f"  {'holds' if check.holds else 'MISSED'}: {told}")
            missed += [] if check.holds else [f"{experiment.name}: {told}"]
    (DOCS / "papers.md").write_text(page(every), encoding="utf-8")
    if missed:  # a result like any other, and no reason to stop a make
        say("\n  ".join([f"conditions missed: {len(missed)}", *missed]))
    return 1 if crashed else 0


def _allow_tf32() -> None:
    """Of every factor the ten leading bits of the mantissa count, instead of 23; sums are float32's still."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = True


def page(every: list[Experiment]) -> str:
    """docs/papers.md from the results that are there."""
    kept = {e.name: _results(e.name) for e in every}
    parts = [
        "# The four works, measured",
        "",
        "Written by `python benchmarks/papers/run.py`; do not edit. ENRP: Ensemble Neural Representation Networks, "
        "arXiv 2110.04124. MH-ReLU: Multi-Head ReLU Implicit Neural Representation Networks, arXiv 2110.03448. "
        "Meta-SparseINR, arXiv 2110.14678. Partition: arXiv 2310.14184. "
        "PSNR conventions, named beside every figure: *ordinary* is 10·log10(1/MSE) of signals in [0, 1] "
        "(sounds: peak-to-peak 2, so 10·log10(4/MSE)); *ENRP's* is 10·log10(1/MSE) of signals in [−1, 1], "
        "6.02 dB less than ordinary; the other three works use the ordinary one, without clamping.",
        "",
        _quick_total(kept),
        "",
        "## Every figure and table, at a glance",
        "",
        "| row | what | the paper | ours | PSNR | size of the run | conditions |",
        "|---:|---|---|---|---|---|---|",
    ]
    for row in range(1, N_ROWS + 1):
        for e in (e for e in every if row in e.rows):
            found = _shown(kept, e)
            if found is None:
                parts.append(f"| {row} | {e.title} | {e.paper} | not run | – | – | – |")
                continue
            size, result = found
            n = sum(c["holds"] for c in result["checks"])
            mark = f"{n} of {len(result['checks'])} hold" if result["checks"] else "–"
            if smaller := _stand_in(e, kept[e.name]):
                mark += f"; stand-in {sum(c['holds'] for c in smaller['checks'])} of {len(smaller['checks'])}"
            psnr = _convention(e) if "dB" in e.paper + result["ours"] else "–"
            cells = (row, f"[{e.title}](#{e.name})", e.paper, result["ours"], psnr, size, mark)
            parts.append(f"| {' | '.join(map(str, cells))} |")
    parts.append("")
    for e in every:
        found = _shown(kept, e)
        if found is None:
            continue
        size, result = found
        numbers = ", ".join(map(str, (r for r in e.rows if r)))
        parts += [f'<a id="{e.name}"></a>', "", f"## {e.title}", ""]
        parts += [
            f"`{result['command']}` ({f'row {numbers}; ' if numbers else ''}{size}, {result['seconds']:.0f} s"
            f"{' without what earlier runs had left' if result.get('partial') else ''}, {result['date']}; "
            f"{result['machine']})",
            "",
            _paper_size(e, "paper" in kept[e.name]),
            "",
            result["body"].strip(),
            "",
        ]
        if (note := RESULTS / f"{e.name}.note.md").exists():  # what somebody saw in the run shown, by hand
            parts += [f"*Note.* {note.read_text(encoding='utf-8').strip()}", ""]
        if result["checks"]:
            parts.append(_conditions(result))
        if smaller := _stand_in(e, kept[e.name]):
            parts += [
                f"The stand-in's size, `{smaller['command']}` ({smaller['seconds']:.0f} s, {smaller['date']}; "
                f"{smaller['machine']}): {smaller['ours']}.",
                "",
                _conditions(smaller),
            ]
    return "\n".join(parts).rstrip() + "\n"


def _stand_in(e: Experiment, kept: dict[str, Any]) -> dict[str, Any] | None:
    """The result of a stand-in's size where the paper's is shown."""
    return kept.get("full") if e.size == "stand-in" and "paper" in kept else None


def _conditions(result: dict[str, Any]) -> str:
    return table(
        ("condition", "measured", "holds"),
        [(c["claim"], c["measured"], "yes" if c["holds"] else "**no**") for c in result["checks"]],
    )


def _convention(e: Experiment) -> str:
    """The PSNR of an experiment's figures: its work's, as the head of the page defines them."""
    return "ENRP's" if e.name.startswith("enrp") else "ordinary"


def _quick_total(kept: dict[str, Any]) -> str:
    seconds = [result["quick"]["seconds"] for result in kept.values() if "quick" in result]
    return (
        f"The whole set takes {sum(seconds) / 60:.0f} minutes in its quick size ({len(seconds)} of {len(kept)} "
        "experiments measured); conditions are checked at the size shown, the largest that was run, and at the "
        "stand-in's where that was run besides."
    )


def _paper_size(e: Experiment, is_shown: bool) -> str:
    if is_shown:
        return "This is the run at the paper's size."
    if not e.cost:
        return "There is no larger size than the full one: " + (
            "it is the paper's." if e.size.startswith("the paper's") else "the papers have no such experiment."
        )
    return f"The paper's size: `python benchmarks/papers/run.py {e.name} --paper`, estimated {e.cost}."


def _shown(kept: dict[str, Any], experiment: Experiment) -> tuple[str, dict[str, Any]] | None:
    """The largest size that was run, in words, and its result."""
    for size in reversed(SIZES):
        if result := kept.get(experiment.name, {}).get(size):
            return {"full": experiment.size, "paper": experiment.whole}.get(size, size), result
    return None


def _results(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _keep(name: str, size: str, result: dict[str, Any]) -> None:
    kept = _results(name) | {size: result}
    RESULTS.mkdir(parents=True, exist_ok=True)
    beside = RESULTS / f"{name}.part"
    beside.write_text(json.dumps(kept, indent=1, ensure_ascii=False, default=_plain) + "\n", encoding="utf-8")
    beside.replace(RESULTS / f"{name}.json")


def _machine(args: argparse.Namespace) -> str:
    import torch

    from inrcodec.fitting import resolve_device

    facts = dict(machine())
    wanted = ("numpy", "torch")
    versions = [v for v in facts["packages"].split(", ") if v.split()[0] in wanted]
    used = resolve_device(args.device)
    gpu = [torch.cuda.get_device_name(used)] if used.type == "cuda" else []
    return ", ".join(
        [
            *gpu, *["matrix products in TF32"] * args.tf32, facts["CPU"], f"{facts['cores']} cores",
            f"Python {facts['Python']}", *versions, facts["threads"],
        ]
    )  # fmt: skip


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not for JSON")


def _command(name: str, size: str, args: argparse.Namespace) -> str:
    words = ["python", "benchmarks/papers/run.py", name]
    words += [f"--{size}"] * (size != "full") + ["--tf32"] * args.tf32
    words += ["--device", args.device] if args.device != "auto" else []
    words += ["--data", args.data.name] if args.data else []
    return shlex.join(words + (["--seed", str(args.seed)] if args.seed else []))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--data", type=Path, help="folder with papers/, audio/, kodak/, photos/; without: stand-ins")
    size = parser.add_mutually_exclusive_group()
    size.add_argument(
        "--quick",
        dest="size",
        action="store_const",
        const="quick",
        default="full",
        help="sizes for two cores: all of it in 40 minutes",
    )
    size.add_argument(
        "--paper",
        dest="size",
        action="store_const",
        const="paper",
        help="the paper's own sizes, where the full run is smaller; --list says what they cost",
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU where there is one), cpu, cuda, cuda:N or mps")
    parser.add_argument(
        "--tf32", action="store_true", help="a GPU's matrix products in TF32, as PyTorch 1.7 to 1.11 had by default"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--debug", action="store_true", help="stop at the first error, with its traceback")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
