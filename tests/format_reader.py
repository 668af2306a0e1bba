"""A decoder of codes written from FORMAT.md alone, slow and obvious, for test_format.py to compare with: §1 to §6 here,
§7 in format_tiles.py.

When tables or constants change, FORMAT.md and this follow. Section numbers are FORMAT.md's.
"""

# ruff: noqa: PLR0917

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from collections.abc import Iterator

import msgpack
import numpy as np
import zstandard
from format_tiles import (
    cosine_part,
    labels_part,
    learned_part,
    leaves_of,
    plain_part,
    smooth_part,
    splits_part,
    time_part,
)
from tiny_files import fuzz

from inrcodec.priors.tables import starting_counts

INCREMENT, LIMIT = 32, 2**22
N_SYMBOLS = 68
Index = tuple[int, ...]


class Arithmetic:
    """§6.1"""

    def __init__(self, data: bytes) -> None:
        data += bytes(-len(data) % 4)
        self.words: Iterator[int] = itertools.chain(struct.unpack(f"<{len(data) // 4}I", data), itertools.repeat(0))
        self.point = next(self.words) << 32 | next(self.words)
        self.range = 2**64 - 1

    def read(self, frequencies: list[int]) -> int:
        unit = self.range // 2**24
        q = self.point // unit
        assert q < 2**24
        begin = 0
        symbol = 0
        while q >= begin + frequencies[symbol]:
            begin += frequencies[symbol]
            symbol += 1
        frequency = frequencies[symbol]
        self.point -= begin * unit
        self.range = frequency * unit
        if self.range < 2**32:
            self.point = (self.point << 32 | next(self.words)) % 2**64
            self.range <<= 32
        return symbol

    def uniform(self, n: int) -> int:
        share = 2**24 // n
        return self.read([share] * (n - 1) + [2**24 - share * (n - 1)])

    def stop(self, length: int) -> int:
        """§6.4"""
        if length < 2**16:
            return self.uniform(length + 1)
        return self.uniform((length >> 16) + 1) << 16 | self.uniform(2**16)


def magnitudes_of(symbol: int) -> tuple[int, int]:
    """§6.2: (first magnitude, extra bits)"""
    if symbol < 16:
        return symbol, 0
    e, b = 4 + (symbol - 16) // 2, symbol % 2
    return (2 + b) << (e - 1), e - 1


class Tables:
    """§6.3, and §7.10 for labels and deltas"""

    def __init__(self, kind: str, own: bool = False) -> None:
        self.signed = kind not in ("labels", "learned", "splits")
        if kind == "labels":
            votes = itertools.product((0, 1), range(5), range(5))
            self.rows = [[max(16, 64 * v**3), max(16, 64 * w**3), 16, 16, *[1] * 29, *[0] * 35] for _, v, w in votes]
            return
        if kind == "sparse":
            self.rows = [[4096, *(max(1, 600 // (v + 3) ** 2) for v in range(1, N_SYMBOLS))]]
            return
        self.rows = [[int(c) for c in row] for row in starting_counts(kind)]
        if own and kind == "learned":
            self.rows[:64] = [[int(c) for c in row] for row in fuzz.CONTEXTS.rows]

    def frequencies(self, context: int) -> list[int]:
        row = self.rows[context]
        w = [c * (2**24 - N_SYMBOLS) // sum(row) for c in row]
        w[w.index(max(w))] += 2**24 - N_SYMBOLS - sum(w)
        return [v + 1 for v in w]

    def read(self, source: Arithmetic, contexts: list[int]) -> list[int]:
        order = sorted(range(len(contexts)), key=lambda i: contexts[i])
        tables = {c: self.frequencies(c) for c in set(contexts)}
        symbols = [source.read(tables[contexts[i]]) for i in order]
        values = [magnitudes_of(s)[0] for s in symbols]
        for b in sorted({magnitudes_of(s)[1] for s in symbols} - {0}):
            those = [j for j, s in enumerate(symbols) if magnitudes_of(s)[1] == b]
            if b > 16:
                for j in those:
                    values[j] += source.uniform(2 ** (b - 16)) << 16
                b = 16  # noqa: PLW2901
            for j in those:
                values[j] += source.uniform(2**b)
        if self.signed:
            values = [-v if v and source.uniform(2) else v for v in values]
        for context in set(contexts):
            row = self.rows[context]
            for i, s in zip(order, symbols, strict=True):
                row[s] += INCREMENT * (contexts[i] == context)
            while sum(row) > LIMIT:
                row[:] = [c - (c >> 1) for c in row]
        result = [0] * len(contexts)
        for i, v in zip(order, values, strict=True):
            result[i] = v
        return result


def decode(data: bytes) -> list[np.ndarray]:
    """File -> codes by tensor, §1 to §7."""
    at, chunks = 8, []
    while at < len(data):
        length, kind = struct.unpack_from("<I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    _, _, signal, m, field, _, (coder, _), levels = msgpack.unpackb(chunks[0][1][2:])
    payloads = [p for k, p in chunks if k == b"DATA"]
    _, shape, channels = signal[:3]
    d, cosine = len(shape), field[1] == 1
    sizes = [[(c + 1) * n // k - c * n // k for c in range(k)] for n, k in zip(shape, m, strict=True)]
    largest = tuple(max(s) for s in sizes)
    # tensors: (kind, shape, number of frequency axes, classes)
    tensors: list[tuple[str, Index, int, list[int]]] = []
    own = cosine and len(field) == 11  # §2: contexts of a prior
    if cosine:
        if field[2]:
            knots = [max(1, (2 * n + p) // (2 * p)) + 3 if p else 1 for n, p in zip(shape, field[2], strict=True)]
            tensors.append(("smooth", (channels + field[4], *knots), 0, []))
        if field[8]:
            tensors.append(("sparse", (1, 3024, 1, 1), 1, [0] * 3024))
        if field[9:] and not own:
            tensors.append(("splits", (1, 2 ** field[9] - 1, *m), 1, []))
        tensors.append(({1: "time", 2: "learned", 3: "cosine"}[d], (channels, *largest, *m), d, []))
    else:
        arch, body, width, depth, _, features, _, connections, segments, prior, kept = field
        last = channels if arch == 2 else 0 if connections else width
        units = [2 * features if body == 4 else d, *[width] * (depth + 1), last]
        groups = []
        for i, (a, b) in enumerate(itertools.pairwise(units)):
            groups += [2 * i] * (a * b) + [2 * i + 1] * b
        if arch == 1:
            tensors.append(("plain", (1, len(groups), *[1] * d), 1, groups))
            octaves = [f if f < 8 else 8 + math.floor(4 * math.log2(f / 8)) for f in range(width + 1)]
            if connections:
                octaves = [int(f > 0) for f in range(connections + 1)]
            groups = [2 * o + (c > 0) for o in octaves for c in range(channels)]
        if prior:
            groups = [groups[j] for j in np.flatnonzero(fuzz.PRIOR.mask)]
            assert len(groups) == kept
        if segments:
            tensors.append(("labels", (1, *shape), 0, []))
            m = [segments]
        tensors.append(("plain", (1, len(groups), *m), 1, groups))
    side = {1: 64, 2: 64, 3: 16}[len(m)]
    tiles = list(itertools.product(*([(a, min(a + side, n)) for a in range(0, n, side)] for n in m)))
    n_diagonals = sum(largest) - d + 1 if cosine else 1
    bounds = [0, *levels, n_diagonals]
    heads = len(tensors) - 1
    plan = [[(heads, t, low, high)] for low, high in itertools.pairwise(bounds) for t in tiles]
    if heads:
        whole = [(i, tuple((0, n) for n in full[1 + f :]), 0, 1) for i, (_, full, f, _) in enumerate(tensors[:-1])]
        plan = [[*whole, *plan[0]], *plan[1:]] if len(tiles) == 1 else [whole, *plan]
    assert len(plan) == len(payloads)
    codes = [np.zeros(t[1], np.int32) for t in tensors]
    states: dict = {}
    chains: dict = {}  # §7.7, by tile
    for payload, parts in zip(payloads, plan, strict=True):
        source = Arithmetic(payload) if coder == 2 else None
        raw = b"" if coder == 2 else zstandard.decompress(payload)
        for part in parts:
            tensor, tile, low, high = part
            kind, full, n_frequencies, classes = tensors[tensor]
            mine, tables = states.setdefault((tensor, tile), ({}, Tables(kind, own)))
            if source is None:
                raw = read_planes(mine, raw, kind, full, n_frequencies, sizes, tile, low, high)
            else:
                stops = (
                    [low + source.stop(high - low) for _ in range(channels)]
                    if kind in ("cosine", "time", "learned")
                    else []
                )

                def read(contexts: list[int], tables: Tables = tables, source: Arithmetic = source) -> list[int]:
                    return tables.read(source, contexts)

                if kind == "learned":
                    learned_part(
                        mine,
                        largest,
                        sizes,
                        tile,
                        low,
                        stops,
                        read,
                        chains.setdefault(tile, {}) if field[7] else None,
                        fuzz.CONTEXTS.network if own else None,
                    )
                elif kind == "cosine":
                    cosine_part(mine, largest, sizes, tile, low, stops, read)
                elif kind == "time":
                    (start, end), leaves = tile[0], []
                    for t in range(start, end):
                        place = 0
                        for size in leaves_of(codes[0][0, :, t] if field[9:] else [], 0, sizes[0][t]):
                            leaves.append((t - start, place, size))
                            place += size
                    time_part(mine, largest, leaves, stops, read)
                elif kind == "smooth":
                    smooth_part(mine, full[0], full[1:], read)
                elif kind == "labels":
                    labels_part(mine, full[1:], read)
                elif kind == "splits":
                    splits_part(mine, full[1], full[2], read)
                else:
                    plain_part(mine, classes, tile, read)
            corner = (0,) * (1 + n_frequencies) + tuple(a for a, _ in tile)
            for index, value in mine.items():
                codes[tensor][tuple(i + o for i, o in zip(index, corner, strict=True))] = value
        assert not raw
    digest = hashlib.sha256(b"".join(c.astype("<i4").tobytes() for c in codes)).digest()[:8]
    assert digest == chunks[-1][1]
    return codes


def read_planes(
    codes: dict, raw: bytes, kind: str, full: Index, n_frequencies: int, sizes: list, tile: tuple, low: int, high: int
) -> bytes:
    """§5: one part -> what is left of the content"""
    frequencies, cells = full[1 : 1 + n_frequencies], [b - a for a, b in tile]
    where = [
        (c, *u, *k)
        for u in itertools.product(*map(range, frequencies))
        for k in itertools.product(*map(range, cells))
        for c in range(full[0])
        if kind in ("smooth", "sparse", "plain", "labels", "splits")
        or (low <= sum(u) < high and all(u[i] < sizes[i][tile[i][0] + k[i]] for i in range(len(u))))
    ]
    n, planes = raw[0], []
    for j in range(n):
        planes.append(raw[1 + j * len(where) : 1 + (j + 1) * len(where)])
    for i, index in enumerate(where):
        z = sum(planes[j][i] << 8 * j for j in range(n))
        codes[index] = -(z + 1) // 2 if z % 2 else z // 2
    return raw[1 + n * len(where) :]
