"""Turns what a search has found into a JSON document, and that back into evaluations to go on from, or a result."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .errors import FormatError
from .grid import parse_cells
from .search import Evaluation, Facts, Pair, Scored, SearchResult, SearchSettings, digest
from .settings import EncodeSettings
from .signals import Signal

__all__ = ["Found", "chosen_settings", "document", "pack", "parse"]

FORMAT = "inrcodec search"
VERSION = 1
OPTIONS = ("widths", "depths", "start", "max_flops", "alpha", "max_rounds", "exhaustive", "repeats", "seed")


@dataclass(frozen=True)
class Found:
    """What a document says. pair: the (width, depth) chosen, None where the search has not ended."""

    facts: Facts
    evaluations: tuple[Evaluation, ...]
    pair: Pair | None


def document(
    facts: Facts, settings: SearchSettings, evaluations: Iterable[Evaluation], result: SearchResult | None
) -> dict[str, Any]:
    """Keys are promises: added to, never renamed. facts come first: they say what the evaluations are of."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "facts": asdict(facts),
        "options": {name: getattr(settings, name) for name in OPTIONS},
        "evaluations": [asdict(e) for e in evaluations],
        "sweeps": [
            {"round": s.round, "axis": s.axis, "tried": [_scored(t) for t in s.tried], "chosen": s.chosen}
            for s in (result.sweeps if result else ())
        ],
        "result": None if result is None else _scored(result.best) | {"converged": result.converged},
    }


def pack(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()


def parse(data: bytes) -> Found:
    """Raises FormatError for anything that `pack` does not write."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise FormatError("not a result of inrcodec search")
    if raw.get("version") != VERSION:
        raise FormatError(f"search result of version {raw.get('version')!r}, wanted {VERSION}")
    try:
        told: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in raw["facts"].items()}
        facts = Facts(**{f.name: told[f.name] for f in fields(Facts)})
        evaluations = tuple(_evaluation(e) for e in raw["evaluations"])
        result = raw["result"]
        pair = None if result is None else (int(result["width"]), int(result["depth"]))
        cells = tuple(int(m) for m in facts.cells)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FormatError(f"damaged search result ({type(error).__name__}: {error})") from None
    return Found(replace(facts, cells=cells), evaluations, pair)


def chosen_settings(found: Found, signal: Signal, settings: EncodeSettings) -> EncodeSettings:
    """Settings that encode this signal with the pair, grid and body that a search of it chose.

    Raises ValueError where it was of another signal, has not ended, or disagrees with a grid or body asked for.
    """
    if found.facts.digest != digest(signal):
        raise ValueError("a search of another signal")
    if found.pair is None:
        raise ValueError("a search that has not ended; inrcodec search goes on with it")
    grid = "x".join(map(str, found.facts.cells[::-1]))
    if parse_cells(settings.grid, signal.meta.shape) not in (None, found.facts.cells):
        raise ValueError(f"a search of --grid {grid}, --grid {settings.grid} was asked for")
    if settings.body not in (None, found.facts.body):
        raise ValueError(f"a search of --body {found.facts.body}, --body {settings.body} was asked for")
    width, depth = found.pair
    return replace(settings, arch="ensemble", body=found.facts.body, grid=grid, width=width, depth=depth)


def _scored(scored: Scored) -> dict[str, Any]:
    return asdict(scored) | {"paper_psnr_db": scored.paper_psnr_db}


def _evaluation(raw: dict[str, Any]) -> Evaluation:
    width, depth, seed = (int(raw[name]) for name in ("width", "depth", "seed"))
    found = Evaluation(width, depth, seed, float(raw["psnr_db"]), float(raw["seconds"]))
    if not math.isfinite(found.psnr_db):
        raise ValueError("psnr_db is not a number")
    return found
