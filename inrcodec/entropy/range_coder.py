"""The default coder: context-adaptive range coding. Everything that decides a symbol is an integer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import FormatError
from ..parallel import MANY_CODES, in_processes
from ..stream import Part, TensorLayout
from .base import EntropyCoder, check_magnitudes
from .context import UNSIGNED, Networks, TileModel, counts_of, open_tile, tile_kind
from .range_stream import Reader, Writer, reader, writer
from .tables import AdaptiveTables

__all__ = ["RangeCoder"]

MANY_BYTES = 2**18  # take a second or two to decode


class RangeCoder(EntropyCoder):
    """A chunk is one range-coded stream. For each part: where its codes end (`stops`), then the passes of its tile
    model. A model and its adaptive tables live through all levels of their tile; tiles are independent."""

    def __init__(self, starting_counts: Callable[[str], np.ndarray], networks: Callable[[], Networks]) -> None:
        """starting_counts: kind of tile model -> int64 [N_CONTEXTS[kind], N_SYMBOLS] (priors.tables has them).
        networks: of the learned contexts (priors.networks has them). A layout may bring others."""
        self._starting_counts, self._networks = starting_counts, networks

    def encode(
        self, codes: Sequence[np.ndarray], layouts: Sequence[TensorLayout], chunks: Sequence[Sequence[Part]]
    ) -> list[bytes]:
        groups = _by_tile(chunks)
        tasks = []
        for group in groups:
            parts = [chunks[i] for i in group]
            views = {p.tensor: codes[p.tensor][p.index] for some in parts for p in some}
            tasks.append(_Writing(layouts, parts, _splits(codes, layouts, parts), views))
        payloads = [b""] * len(chunks)
        worth = sum(c.size for c in codes) >= MANY_CODES
        for group, made in zip(groups, in_processes(self._write, tasks, worth_a_start=worth), strict=True):
            for i, payload in zip(group, made, strict=True):
                payloads[i] = payload
        return payloads

    def decode(
        self, payloads: Sequence[bytes | None], layouts: Sequence[TensorLayout], chunks: Sequence[Sequence[Part]]
    ) -> tuple[np.ndarray, ...]:
        codes = tuple(np.zeros(layout.shape, np.int32) for layout in layouts)
        groups = [g for g in _by_tile(chunks) if any(payloads[i] is not None for i in g)]
        # what all tiles share goes first: heads may depend on it, and most damage shows before any process is started
        shared = [g for g in groups if chunks[g[0]][-1].tensor < len(layouts) - 1]
        for some in (shared, groups[len(shared) :]):
            tasks = []
            for group in some:
                parts = [chunks[i] for i in group]
                tasks.append(_Reading(layouts, parts, _splits(codes, layouts, parts), [payloads[i] for i in group]))
            worth = sum(len(payload or b"") for task in tasks for payload in task.payloads) >= MANY_BYTES
            for task, views in zip(tasks, in_processes(self._read, tasks, worth_a_start=worth), strict=True):
                for tensor, index in {p.tensor: p.index for chunk in task.parts for p in chunk}.items():
                    codes[tensor][index] = views[tensor]
        for array in codes:
            check_magnitudes(array)
        return codes

    def _write(self, task: _Writing) -> list[bytes]:
        own = {tensor: codes.copy() for tensor, codes in task.codes.items()}
        tile = _Tile(task, own, self._starting_counts, self._networks)
        payloads = []
        for chunk in task.parts:
            out = writer()
            for part in chunk:
                tile.write(out, part)
            payloads.append(out.bytes())
        if any((tile.codes[t] != codes).any() for t, codes in task.codes.items()):  # dependent ones that are on no path
            raise AssertionError("codes that the coder cannot hold")
        return payloads

    def _read(self, task: _Reading) -> dict[int, np.ndarray]:
        shapes = {
            p.tensor: (*task.layouts[p.tensor].shape[: -len(p.tile)], *(b - a for a, b in p.tile))
            for chunk in task.parts
            for p in chunk
        }
        own = {tensor: np.zeros(shape, np.int32) for tensor, shape in shapes.items()}
        tile = _Tile(task, own, self._starting_counts, self._networks)
        for chunk, payload in zip(task.parts, task.payloads, strict=True):
            if payload is not None:
                source = reader(payload)
                for part in chunk:
                    tile.read(source, part)
        return tile.codes


@dataclass(frozen=True)
class _Task:
    """parts: of every chunk of one tile, and of the tensors that ride with it. splits: flags of its cells, where they
    are known before."""

    layouts: Sequence[TensorLayout]
    parts: list[Sequence[Part]]
    splits: np.ndarray | None


@dataclass(frozen=True)
class _Writing(_Task):
    """codes: by tensor, of the tile."""

    codes: dict[int, np.ndarray]


@dataclass(frozen=True)
class _Reading(_Task):
    payloads: list[bytes | None]


def _by_tile(chunks: Sequence[Sequence[Part]]) -> list[list[int]]:
    """Indices of the chunks of each tile, in the order of files."""
    found: dict[object, list[int]] = {}
    for i, parts in enumerate(chunks):
        found.setdefault((parts[-1].tensor, parts[-1].tile), []).append(i)
    return list(found.values())


def _splits(
    codes: Sequence[np.ndarray], layouts: Sequence[TensorLayout], parts: Sequence[Sequence[Part]]
) -> np.ndarray | None:
    """Flags of a tile, unless they are coded with it."""
    last = parts[-1][-1]
    if not layouts[last.tensor].split or parts[0][0].tensor == 0:
        return None
    return codes[0][0, :, last.index[-1]]


class _Tile:
    """A tile of each tensor of a task: codes, and the models and tables that live through all chunks."""

    def __init__(
        self,
        task: _Task,
        codes: dict[int, np.ndarray],
        starting_counts: Callable[[str], np.ndarray],
        networks: Callable[[], Networks],
    ) -> None:
        self.codes = codes
        self._task, self._starting_counts, self._networks = task, starting_counts, networks
        self._open: dict[int, tuple[TileModel, AdaptiveTables]] = {}

    def write(self, out: Writer, part: Part) -> None:
        model, tables = self._model(part)
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

    def _model(self, part: Part) -> tuple[TileModel, AdaptiveTables]:
        if part.tensor not in self._open:
            layout, splits = self._task.layouts[part.tensor], self._task.splits
            if layout.split and splits is None:
                splits = self.codes[0][0]
            kind = tile_kind(layout)
            counts = counts_of(layout.contexts, kind, self._starting_counts)
            model = open_tile(
                self.codes[part.tensor],
                layout,
                part,
                self._networks,
                counts=counts if isinstance(self._task, _Writing) else None,
                splits=splits,
            )
            self._open[part.tensor] = model, AdaptiveTables(counts, signed=kind not in UNSIGNED)
        return self._open[part.tensor]


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
