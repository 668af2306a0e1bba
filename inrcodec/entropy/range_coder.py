"""The default coder: context-adaptive range coding. Everything that decides a symbol is an integer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import FormatError
from ..parallel import each
from ..stream import Part, TensorLayout
from .base import EntropyCoder, check_magnitudes
from .context import UNSIGNED, Networks, open_tile, tile_kind
from .range_stream import Reader, Writer, reader, writer
from .tables import AdaptiveTables

__all__ = ["RangeCoder"]


class RangeCoder(EntropyCoder):
    """A chunk is one range-coded stream. For each part: where its codes end (`stops`), then the passes of its tile
    model. A model and its adaptive tables live from the first to the last level of their tile."""

    def __init__(self, starting_counts: Callable[[str], np.ndarray], networks: Callable[[], Networks]) -> None:
        """starting_counts: kind of tile model -> int64 [N_CONTEXTS[kind], N_SYMBOLS] (priors.tables has them).
        networks: of the learned contexts (priors.networks has them)."""
        self._starting_counts, self._networks = starting_counts, networks

    def encode(
        self, codes: Sequence[np.ndarray], layouts: Sequence[TensorLayout], chunks: Sequence[Sequence[Part]]
    ) -> list[bytes]:
        tiles = _Tiles([c.copy() for c in codes], layouts, self._starting_counts, self._networks)
        payloads = [b""] * len(chunks)

        def encode(group: list[int]) -> None:
            for i in group:
                out = writer()
                for part in chunks[i]:
                    tiles.write(out, part)
                payloads[i] = out.bytes()

        each(encode, _by_tile(chunks))
        return payloads

    def decode(
        self, payloads: Sequence[bytes | None], layouts: Sequence[TensorLayout], chunks: Sequence[Sequence[Part]]
    ) -> tuple[np.ndarray, ...]:
        codes = tuple(np.zeros(layout.shape, np.int32) for layout in layouts)
        tiles = _Tiles(codes, layouts, self._starting_counts, self._networks)

        def decode(group: list[int]) -> None:
            for i in group:
                if (payload := payloads[i]) is not None:
                    source = reader(payload)
                    for part in chunks[i]:
                        tiles.read(source, part)
            for i in group:
                for part in chunks[i]:
                    tiles.forget(part)

        each(decode, _by_tile(chunks))
        for array in codes:
            check_magnitudes(array)
        return codes


def _by_tile(chunks: Sequence[Sequence[Part]]) -> list[list[int]]:
    """Indices of the chunks of each tile of heads, which share its state; other tiles have nothing to do with it."""
    groups: dict[object, list[int]] = {}
    for i, parts in enumerate(chunks):
        groups.setdefault((parts[-1].tensor, parts[-1].tile), []).append(i)
    return list(groups.values())


class _Tiles:
    """Models and tables of the tiles under way."""

    def __init__(
        self,
        codes: Sequence[np.ndarray],
        layouts: Sequence[TensorLayout],
        starting_counts: Callable[[str], np.ndarray],
        networks: Callable[[], Networks],
    ) -> None:
        self._codes, self._layouts = codes, layouts
        self._starting_counts, self._networks = starting_counts, networks
        self._open: dict[tuple[int, tuple[tuple[int, int], ...]], tuple[object, AdaptiveTables]] = {}

    def write(self, out: Writer, part: Part) -> None:
        model, tables = self._model(part)
        stops = model.stops(part.low, part.high)
        for stop in stops:
            _put_stop(out, int(stop) - part.low, part.high - part.low)

        def code(contexts: np.ndarray, values: np.ndarray) -> np.ndarray:
            tables.write(out, contexts, values)
            return values

        model.run(part.low, part.high, stops, code)
        self._close(part)

    def read(self, source: Reader, part: Part) -> None:
        model, tables = self._model(part)
        n = len(model.stops(part.low, part.high))
        stops = np.array([part.low + _get_stop(source, part.high - part.low) for _ in range(n)])
        model.run(part.low, part.high, stops, lambda contexts, _: tables.read(source, contexts))
        self._close(part)

    def _model(self, part: Part):  # type: ignore[no-untyped-def]
        key = part.tensor, part.tile
        if key not in self._open:
            layout = self._layouts[part.tensor]
            lead = (slice(None),) * (1 + len(layout.frequencies))
            view = self._codes[part.tensor][(*lead, *(slice(a, b) for a, b in part.tile))]
            kind = tile_kind(layout)
            model = open_tile(view, layout, part, self._networks)
            self._open[key] = model, AdaptiveTables(self._starting_counts(kind), signed=kind not in UNSIGNED)
        return self._open[key]

    def _close(self, part: Part) -> None:
        if part.high >= self._layouts[part.tensor].n_diagonals:
            self.forget(part)

    def forget(self, part: Part) -> None:
        """Frees a tile's state, which is larger than its codes: large pictures have many tiles."""
        self._open.pop((part.tensor, part.tile), None)


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
