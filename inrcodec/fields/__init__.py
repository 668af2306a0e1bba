"""Families of functions. Adding one: a module that keeps base.Field's contract, and one line here; for a new body also
an id in formats/header.py, with what its spec holds, a name in settings.BODIES, and its counts in cost.py."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from ..grid import Grid
from ..signals import SignalMeta
from ..stream import FieldSpec
from .base import Field

if TYPE_CHECKING:
    from ..priors.context_file import AnyPrior

__all__ = ["FIELDS", "Field", "field_class", "make_field"]

# (arch, body) -> module and class; imported when needed, for the MLP bodies bring torch
FIELDS = {
    ("multihead", "cosine"): ("cosine", "CosineField"),
    ("multihead", "siren"): ("multihead", "MultiheadMlpField"),
    ("multihead", "relu"): ("multihead", "MultiheadMlpField"),
    ("multihead", "fourier"): ("multihead", "MultiheadMlpField"),
    ("ensemble", "siren"): ("ensemble", "EnsembleField"),
    ("ensemble", "relu"): ("ensemble", "EnsembleField"),
    ("ensemble", "fourier"): ("ensemble", "EnsembleField"),
}
SPARSE = ("multihead_sparse", "SparseMultiheadField")  # of a multihead relu whose heads have connections
ADAPTED = ("adapted", "AdaptedField")  # of an ensemble; made with its prior besides
CONTEXTUAL = ("contextual", "ContextualField")  # of a multihead cosine; made with its prior besides
SWITCHED = ("switched", "SwitchedField")  # of a multihead cosine whose cells are split
SEGMENTED = ("segmented", "SegmentedField")  # of an ensemble whose spec has segments


def field_class(spec: FieldSpec) -> type[Field]:
    """Raises KeyError for a pair that does not exist."""
    module, name = FIELDS[spec.arch, spec.body]
    if spec.connections:
        module, name = SPARSE
    elif spec.segments:
        module, name = SEGMENTED
    elif spec.splits:
        module, name = SWITCHED
    elif spec.prior:
        module, name = ADAPTED if spec.arch == "ensemble" else CONTEXTUAL
    cls: type[Field] = getattr(import_module(f".{module}", __package__), name)
    return cls


def make_field(spec: FieldSpec, signal: SignalMeta, grid: Grid, prior: AnyPrior | None = None) -> Field:
    """The field of a spec; prior: the one that it names. Raises KeyError for a pair that does not exist, ValueError for
    a spec that the family cannot have."""
    family: Callable[..., Field] = field_class(spec)
    return family(spec, signal, grid, *([prior] if spec.prior else []))
