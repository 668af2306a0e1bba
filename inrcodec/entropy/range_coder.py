"""The default coder: context-adaptive range coding. Everything that decides a symbol is an integer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import FormatError
from ..stream import Part, TensorLayout
from .base import EntropyCoder, check_magnitudes
from .context import UNSIGNED, Networks, TileModel, open_tile, tile_kind
from .range_stream import Reader, Writer, reader, writer
from .tables import AdaptiveTables

__all__ = ["RangeCoder"]


class RangeCoder(EntropyCoder):
    """A chunk is one range-coded stream. For each part: where its codes end (`stops`), then the passes of its tile
    model. A model and its adaptive tables live through all levels of their tile."""

    def __init__(self, starting_counts: Callable[[str], np.ndarray], networks: Callable[[], Networks]) -> None:
        """starting_counts: kind of tile model -> int64 [N_CONTEXTS[kind], N_SYMBOLS] (priors.tables has them).
        networks: of the learned contexts (priors.networks has them)."""
        self._starting_counts, self._networks = starting_counts, networks

    def encode(
        self, codes: Sequence[np.ndarray], layouts: Sequence[TensorLayout], chunks: Sequence[Sequence[Part]]
    ) -> list[bytes]:
        tiles = _Tiles([c.copy() for c in codes], layouts, self._starting_counts, self._networks)
        payloads = [b""] * len(chunks)
        for i in _by_tile(chunks):
            out = writer()
            for part in chunks[i]:
                tiles.write(out, part)
            payloads[i] = out.bytes()
        if any((a != b).any() for a, b in zip(tiles.codes, codes, strict=True)):  # dependent codes that are on no path
            raise AssertionError("codes that the coder cannot hold")
        return payloads

    def decode(
        self, payloads: Sequence[bytes | None], layouts: Sequence[TensorLayout], chunks: Sequence[Sequence[Part]]
    ) -> tuple[np.ndarray, ...]:
        codes = tuple(np.zeros(layout.shape, np.int32) for layout in layouts)
        tiles = _Tiles(codes, layouts, self._starting_counts, self._networks)
        for i in _by_tile(chunks):
            if (payload := payloads[i]) is not None:
                source = reader(payload)
                for part in chunks[i]:
                    tiles.read(source, part)
        for array in codes:
            check_magnitudes(array)
        return codes


def _by_tile(chunks: Sequence[Sequence[Part]]) -> list[int]:
    """Indices of the chunks, all levels of a tile before the next tile's. The order of tiles, and of a tile's levels,
    is kept."""
    first: dict[object, int] = {}
    for i, parts in enumerate(chunks):
        first.setdefault((parts[-1].tensor, parts[-1].tile), i)
    return sorted(range(len(chunks)), key=lambda i: first[chunks[i][-1].tensor, chunks[i][-1].tile])


class _Tiles:
    """Model and tables of the tile of each tensor that is under way; a new tile ends the one before."""

    def __init__(
        self,
        codes: Sequence[np.ndarray],
        layouts: Sequence[TensorLayout],
        starting_counts: Callable[[str], np.ndarray],
        networks: Callable[[], Networks],
    ) -> None:
        self.codes, self._layouts = codes, layouts
        self._starting_counts, self._networks = starting_counts, networks
        self._open: dict[int, tuple[tuple[tuple[int, int], ...], TileModel, AdaptiveTables]] = {}

    def write(self, out: Writer, part: Part) -> None:
        model, tables = self._model(part, writing=True)
        stops = model.stops(part.low, part.high)
        for stop in stops:
            _put_stop(out, int(stop) - part.low, part.high - part.low)

        def code(contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
            tables.write(out, contexts, values)
            return values

        model.run(part.low, part.high, stops, code)

    def read(self, source: Reader, part: Part) -> None:
        model, tables = self._model(part)
        n = len(model.stops(part.low, part.high))
        stops = np.array([part.low + _get_stop(source, part.high - part.low) for _ in range(n)])
        model.run(part.low, part.high, stops, lambda contexts, _: tables.read(source, contexts))

    def _model(self, part: Part, *, writing: bool = False) -> tuple[TileModel, AdaptiveTables]:
        if part.tensor not in self._open or self._open[part.tensor][0] != part.tile:
            self._open.pop(part.tensor, None)  # its state is larger than its codes: before the next is made
            layout = self._layouts[part.tensor]
            lead = (slice(None),) * (1 + len(layout.frequencies))
            view = self.codes[part.tensor][(*lead, *(slice(a, b) for a, b in part.tile))]
            kind = tile_kind(layout)
            counts = self._starting_counts(kind)
            model = open_tile(
                view,
                layout,
                part,
                self._networks,
                counts=counts if writing else None,
                splits=self.codes[0][0, :, slice(*part.tile[0])] if layout.split else None,
            )
            tables = AdaptiveTables(counts, signed=kind not in UNSIGNED)
            self._open[part.tensor] = part.tile, model, tables
        _, model, tables = self._open[part.tensor]
        return model, tables


def _put_stop(out: Writer, stop: int, limit: int) -> None:
    """0 <= stop <= limit; long sounds in one cell have more frequencies than a table has entries."""
    if limit < 2**16:
        out.put_uniform(np.array([stop], np.int32), limit + 1)
    else:
        out.put_uniform(np.array([stop >> 16], np.int32), (limit >> 16) + 1)
        out.put_uniform(np.array([stop & 0xFFFF], np.int32), 2**16)


def _get_stop(source: Reader, limit: int) -> int:
    """Inverse of _put_stop. Raises FormatError."""
    if limit < 2**16:
        return int(source.get_uniform(1, limit + 1)[0])
    high = int(source.get_uniform(1, (limit >> 16) + 1)[0])
    stop = (high << 16) | int(source.get_uniform(1, 2**16)[0])
    if stop > limit:
        raise FormatError(f"range-coded payload: codes end at {stop}, wanted at most {limit}")
    return stop
