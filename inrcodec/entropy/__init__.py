"""Integer codes to bytes and back. Adding a coder: one module, its lines in CODERS and TABLE_SETS here, an id in
formats/header.py, a name in settings.CODERS, and a branch of Trial._code, which takes the smaller output."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import UnsupportedError
from .base import EntropyCoder

__all__ = ["CODERS", "TABLE_SETS", "make_coder"]


def _zstd() -> EntropyCoder:
    from .zstd import ZstdCoder

    return ZstdCoder()


def _range() -> EntropyCoder:
    from ..priors.networks import context_networks
    from ..priors.tables import starting_counts
    from .range_coder import RangeCoder

    return RangeCoder(starting_counts, context_networks)


CODERS: dict[str, Callable[[], EntropyCoder]] = {"zstd": _zstd, "range": _range}
TABLE_SETS = {"zstd": 0, "range": 8}  # the released tables each coder starts from, as the header names them


def make_coder(name: str, table_set: int) -> EntropyCoder:
    """Raises UnsupportedError for a table set this version does not have."""
    if table_set != TABLE_SETS[name]:
        raise UnsupportedError(f"table set {table_set} of coder {name} is not known to this version")
    return CODERS[name]()
