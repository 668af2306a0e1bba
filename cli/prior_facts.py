"""What `inrcodec prior info` says of a file, for people and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inrcodec.entropy import TABLE_SETS
from inrcodec.prior_files import read_prior
from inrcodec.priors.context_file import ContextFile, context_facts
from inrcodec.priors.prior import Prior

__all__ = ["prior_facts"]


def prior_facts(path: str) -> tuple[dict[str, Any], str]:
    """Facts of a file of any kind of prior, and the lines that say them."""
    prior = read_prior(path)
    facts: dict[str, Any] = {"file": path, "bytes": Path(path).stat().st_size}
    if isinstance(prior, ContextFile):
        facts |= context_facts(prior)
        rows = _context_rows(facts)
    else:
        facts |= _start_facts(prior)
        rows = _start_rows(facts)
    return facts, "\n".join(f"{name:>10}  {text}" if name else text for name, text in rows)


def _context_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    released = TABLE_SETS["range"]
    layers = " → ".join(map(str, (facts["features"], *facts["hidden"], 1)))
    rows = [
        ("", facts["file"]),
        ("contexts", f"{facts['sha256'][:16]}, {facts['parameters']:,} numbers in {facts['bytes']:,} bytes"),
        ("signals", f"{facts['kind']}, {facts['colours']} colours, {facts['positions']}² classes of frequencies"),
        ("network", f"{layers}, {facts['parameters'] - facts['symbols']:,} numbers"),
        ("tables", f"{facts['classes']} classes, {facts['symbols']:,} counts"),
        ("used", f"by every picture: table set {released}" if facts["released"] else "by files of encode --prior"),
    ]
    trained = dict(facts["training"])
    if trained:
        cost = trained.pop("micro-bits a code") / 1e6
        of = "held out" if trained["held out"] else "learned from"
        said = ", ".join(f"{name} {value:,}" for name, value in trained.items())
        rows.append(("trained", f"{said}; {cost:.4f} bits a code {of}"))
    return rows


def _start_facts(p: Prior) -> dict[str, Any]:
    return {
        "id": f"{p.id:016x}", "sha256": p.sha256, "released": False, "kind": p.kind,
        "purpose": "start of the networks of ensembles", "channels": p.fout, "patch": list(p.patch), "body": p.body,
        "width": p.width, "depth": p.depth, "omega": p.omega, "features": p.features, "method": p.method,
        "weights": p.n_parameters - p.n_biases, "weights_kept": p.kept - p.n_biases, "biases": p.n_biases,
        "parameters": p.n_parameters, "kept": p.kept, "relative": p.relative, "schedule": list(p.schedule),
        "learned_steps": 0 if p.rates is None else len(p.rates), "steps": p.steps, "rate": p.rate,
        "training": dict(p.facts),
    }  # fmt: skip


def _start_rows(facts: dict[str, Any]) -> list[tuple[str, str]]:
    patch = " × ".join(map(str, facts["patch"][::-1]))
    learned = f"{n} steps of SGD, learned rates, then " if (n := facts["learned_steps"]) else ""
    return [
        ("", facts["file"]),
        ("prior", f"{facts['id']}, {facts['bytes']:,} bytes"),
        ("signals", f"{facts['kind']}, {facts['channels']} channels, cells of {patch} samples"),
        ("network", f"{facts['body']}, width {facts['width']}, depth {facts['depth']}, omega {facts['omega']}"),
        ("kept", f"{facts['weights_kept']:,} of {facts['weights']:,} weights, all {facts['biases']:,} biases"),
        ("method", facts["method"] + (f", then {facts['schedule'][-1]:,} weights left" if facts["schedule"] else "")),
        ("fit", learned + f"{facts['steps']} steps of Adam, rate {facts['rate']:g}"),
        ("trained", ", ".join(f"{name} {value:,}" for name, value in facts["training"].items())),
    ]
