"""The priors that come with the package: what they are for, how large, and by which digest they are known."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np

from ..entropy import TABLE_SETS
from . import context, signs, synthesis, tables

__all__ = ["shipped"]


def shipped() -> list[dict[str, Any]]:
    """One entry per file: name, purpose, parameters, bytes, sha256 (of its numbers, as in FORMAT.md, not of the file).

    Raises RuntimeError when an installed file is not the released one.
    """
    contexts = context.context_network()
    n_context = sum(a.size for a in (*contexts.weights, contexts.place, *contexts.bias)) + context.starting_rows().size
    n_signs = sum(a.size for a in signs.arrays(signs.sign_network(), signs.sign_rows()[:, :2]).values())
    of_set = f"table set {TABLE_SETS['range']}"
    found = [
        (tables.FILE, "range coder: symbol counts of sounds, volumes, smooth levels, MLPs", _n_tables(), tables.SHA256),
        (context.FILE, f"range coder: context network of pictures, {of_set}", n_context, context.SHA256),
        (signs.FILE, f"range coder: sign network of pictures, {of_set}", n_signs, signs.SHA256),
    ]
    for number, digest in synthesis.SHA256.items():
        network = synthesis.network(number)
        n = sum(layer.weights.size + layer.bias.size for layer in network.layers)
        purpose = f"{'synthesis' if network.times == 1 else 'detail'} network {number} of the cosine field"
        found.append((f"synthesis_{number}.npz", purpose, n, digest))
    folder = resources.files(__package__)
    names = ("file", "purpose", "parameters", "sha256")
    return [dict(zip(names, facts, strict=True)) | {"bytes": _size(folder, facts[0])} for facts in found]


def _size(folder: Any, name: str) -> int:
    return len(folder.joinpath(name).read_bytes())


def _n_tables() -> int:
    return sum(int(np.prod(tables.starting_counts(kind).shape)) for kind in tables.KINDS)
