"""The priors that come with the package: what they are for, how large, and by which digest they are known."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np

from ..entropy import TABLE_SETS
from ..fields.tuning import TUNINGS
from . import context, signs, synthesis, tables
from .context_file import ContextFile, context_facts

__all__ = ["shipped"]


def shipped() -> list[dict[str, Any]]:
    """One entry per file: name, bytes, id (None: files do not name what is released), sha256 (of its numbers, as in
    FORMAT.md, not of the file), released, kind of signals (None: several), purpose, parameters; of the contexts, all
    of context_facts.

    Raises RuntimeError when an installed file is not the released one.
    """
    contexts = ContextFile(context.context_network(), context.starting_rows(), context.SHA256, {})
    n_signs = sum(a.size for a in signs.arrays(signs.sign_network(), signs.sign_rows()[:, :2]).values())
    of_signs = f"range coder: sign network of pictures, table set {TABLE_SETS['range']}"
    found = [
        _facts(
            tables.FILE, None, "range coder: symbol counts of sounds, volumes, smooth levels, MLPs", _n_tables(),
            tables.SHA256,
        ),
        {"file": context.FILE, **context_facts(contexts)},
        _facts(signs.FILE, "image", of_signs, n_signs, signs.SHA256),
    ]  # fmt: skip
    tunes = {tuning.synthesis: f", --tune {name}" for name, tuning in TUNINGS.items()}
    for number, digest in synthesis.SHA256.items():
        network = synthesis.network(number)
        n = sum(layer.taps.size + layer.bias.size for layer in network.layers)
        kind = "synthesis" if network.times == 1 else "detail"
        purpose = f"{kind} network {number} of the cosine field{tunes.get(number, '')}"
        found.append(_facts(f"synthesis_{number}.npz", "image", purpose, n, digest))
    folder = resources.files(__package__)
    return [own | {"bytes": len(folder.joinpath(own["file"]).read_bytes())} for own in found]


def _facts(file: str, kind: str | None, purpose: str, parameters: int, digest: str) -> dict[str, Any]:
    return {
        "file": file, "id": None, "sha256": digest, "released": True, "kind": kind, "purpose": purpose,
        "parameters": parameters,
    }  # fmt: skip


def _n_tables() -> int:
    return sum(int(np.prod(tables.starting_counts(kind).shape)) for kind in tables.KINDS)
