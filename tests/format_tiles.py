"""The codes of a tile, pass by pass, written from FORMAT.md §7 alone; format_reader.py reads the files they are in.

When contexts or networks change, FORMAT.md and this follow. Section numbers are FORMAT.md's.
"""

# ruff: noqa: PLR0917

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

from inrcodec.entropy.learned import ContextNetwork
from inrcodec.priors.context import context_network
from inrcodec.priors.signs import sign_network

THRESHOLDS = (1, 2, 4, 5, 8, 11, 14, 19, 25, 33, 42, 54, 69, 88, 112, 142, 180, 227, 287)
WEIGHTS = {  # §7.1, column by column
    (0, 0): (10, 4, 2, 1, 0, 0, 0),
    (0, 1): (8, 4, 2, 1, 0, 7, 0),
    (1, 0): (12, 2, 1, 2, 1, 0, 2),
    (1, 1): (8, 2, 1, 1, 0, 12, 1),
}
Index = tuple[int, ...]


TIME_THRESHOLDS = (2, 3, 5, 7, 10, 14, 19, 25, 32, 41, 53, 68, 87, 110, 140, 177, 224, 283, 358, 452, 571, 720, 908,
                   1145, 1444, 1821, 2295, 2892, 3645)  # fmt: skip


def class_of(weighted: int) -> int:
    return sum(t <= weighted for t in THRESHOLDS)


def magnitude(codes: dict[Index, int], index: Index) -> int:
    return min(abs(codes.get(index, 0)), 287)


Read = Callable[[list[int]], list[int]]


def cosine_part(codes: dict, m: Index, sizes: list, tile: list, low: int, stops: list[int], read: Read) -> None:
    """§7.1; codes: (channel, *frequency, *cell) -> code, cells counted from the tile's corner"""
    d = len(m)
    cells = list(itertools.product(*(range(b - a) for a, b in tile)))
    offsets = [o for o in itertools.product((-1, 0, 1), repeat=d) if any(o)]

    def plus(a: Index, b: Index, sign: int = 1) -> Index:
        return tuple(x + sign * y for x, y in zip(a, b, strict=True))

    unit = [tuple(int(i == j) for j in range(d)) for i in range(d)]
    for s in range(low, max(stops, default=0)):
        members = [u for u in itertools.product(*(range(n) for n in m)) if sum(u) == s]
        for half, c in itertools.product((0, 1), range(len(stops))):
            if s >= stops[c]:
                continue
            here = [
                (u, k)
                for u, k in itertools.product(members, cells)
                if sum(k) % 2 == half and all(u[i] < sizes[i][tile[i][0] + k[i]] for i in range(d))
            ]

            def v(u: Index, k: Index, c: int = c) -> int:
                return magnitude(codes, (c, *u, *k))

            def around(u: Index, k: Index, v: Callable[[Index, Index], int] = v) -> int:
                return sum(v(u, plus(k, o)) for o in offsets)

            contexts = []
            lower, both, second, lower_around, both_around, faces, colours = WEIGHTS[int(c > 0), half]
            for u, k in here:
                weighted = 0
                for e in unit:
                    weighted += lower * v(plus(u, e, -1), k) + lower_around * around(plus(u, e, -1), k)
                    weighted += second * v(plus(plus(u, e, -1), e, -1), k)
                for e, g in itertools.combinations(unit, 2):
                    below = plus(plus(u, e, -1), g, -1)
                    weighted += both * v(below, k) + both_around * around(below, k)
                weighted += faces * sum(v(u, plus(k, o)) for o in offsets if sum(map(abs, o)) == 1)
                weighted += colours * sum(magnitude(codes, (b, *u, *k)) for b in range(c))
                top = max(16 * u[i] // m[i] for i in range(d))
                band = sum(t <= top for t in (1, 2, 4, 7, 11))
                contexts.append(((class_of(weighted) * 6 + band) * 2 + (c > 0)) * 2 + half)
            for (u, k), value in zip(here, read(contexts), strict=True):
                codes[c, *u, *k] = value


def learned_part(
    codes: dict, m: Index, sizes: list, tile: list, low: int, stops: list[int], read: Read, states: dict | None,
    network: ContextNetwork | None,
) -> None:  # fmt: skip
    """§7.6 to §7.8; codes as for cosine_part; states: of dependent heads, by chain; network: not the table set's"""
    network = network or context_network()
    cells = sorted(itertools.product(*(range(b - a) for a, b in tile)), key=lambda k: k[0] % 2)
    h, v = ((0, -1), (0, 1)), ((-1, 0), (1, 0))
    x = ((-1, -1), (-1, 1), (1, -1), (1, 1))
    n_colours = len(stops)

    def log(total: int) -> int:
        return ((1 + min(total, 4095)) ** 8).bit_length() - 1

    def exact(y: int, shift: int) -> int:
        return (y + (1 << shift - 1)) >> shift

    def at(c: int, u: Index, k: Index, offsets: tuple[Index, ...] = ((0, 0),)) -> int:
        near = (codes.get((c, *u, k[0] + a, k[1] + b), 0) for a, b in offsets)
        return sum(min(abs(code) * (1 if states is not None else 2), 4095) for code in near)

    @functools.cache
    def total(t: int, c: int, k: Index, offsets: tuple[Index, ...]) -> int:
        return sum(at(c, (t - b, b), k, offsets) for b in range(m[1]) if 0 <= t - b < m[0])

    if low == 0 and states is not None:
        states["shifts"] = read([88])[0]
    for s in range(low, max(stops, default=0)):
        members = [u for u in itertools.product(range(m[0]), range(m[1])) if sum(u) == s]
        shifts = {}
        for c in range(n_colours) if states is not None and states["shifts"] else ():
            if s < stops[c]:
                indices = [min(j, 24) for j in read([88] * len(members))]
                shifts |= {(c, u): (j + 1) // 2 if j % 2 else -j // 2 for u, j in zip(members, indices, strict=True)}
        for half, c in itertools.product((0, 1), range(n_colours)):
            if s >= stops[c]:
                continue
            here = [
                (u, k)
                for u, k in itertools.product(members, cells)
                if sum(k) % 2 == half and all(u[i] < sizes[i][tile[i][0] + k[i]] for i in range(2))
            ]
            contexts = []
            for u, k in here:

                def lower(a: int, b: int, offsets: tuple[Index, ...] = ((0, 0),), colour: int = c,
                          u: Index = u, k: Index = k) -> int:  # fmt: skip
                    return log(at(colour, (u[0] - a, u[1] - b), k, offsets))

                own = ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2), (3, 0), (0, 3), (-1, 2), (2, -1))
                f = [lower(a, b) for a, b in own]
                f += [lower(a, b, offsets) for a, b in ((1, 0), (0, 1)) for offsets in (h, v, x)]
                f += [lower(a, b, h + v + x) for a, b in ((1, 1), (2, 0), (0, 2))]
                partner = 0 if c else 1
                f += [sum(lower(a, b, colour=partner) for a, b in ((1, 0), (0, 1))) if n_colours > 1 else 0]
                for offsets in (((0, 0),), h + v + x):
                    sums = [total(t, c, k, offsets) for t in range(s)]
                    f += [log(sum(sums[-1:])), log(sum(sums[-2:-1])), log(sum(sums))]
                f += [lower(0, 0, h), lower(0, 0, v)] if half else [0, 0]
                f += [lower(1, -1, h + v), lower(-1, 1, h + v)] if half else [0, 0]
                beside = sum(at(0, (u[0] + a, u[1] - a), k) for a in (-1, 1))
                f += [lower(0, 0, colour=0) if c else 0, lower(0, 0, colour=c - 1) if c > 1 else 0]
                f += [lower(0, 0, h + v + x, colour=0) if c else 0, log(beside) if c else 0]
                f += [lower(0, 0, h + v + x, colour=c - 1) if c > 1 else 0]
                place = [(2 * u[i] + 1) * 16 // (2 * m[i]) for i in range(2)]
                y = [int(b) for b in network.place[place[0], place[1], min(c, 2), half]]
                for layer, w in enumerate(network.weights[:2]):
                    y = [b + sum(int(a) * z for a, z in zip(row, f, strict=True)) for b, row in zip(y, w, strict=True)]
                    f = [min(max(exact(z, network.shift[layer]), 0), network.limit) for z in y]
                    y = [int(b) for b in network.bias[layer]]
                last = y[0] + sum(int(a) * z for a, z in zip(network.weights[2], f, strict=True))
                quarters = min(max(4 * last >> network.shift[2], -12), 140)
                contexts.append(min(max((quarters + shifts.get((c, u), 0) + 2) // 4, 0), 31))
            if states is None:
                values = read(contexts)
            else:
                values = dependent_magnitudes(dict(zip(here, contexts, strict=True)), members, tile, half, states, read)
            nonzero = [(u, k, value) for (u, k), value in zip(here, values, strict=True) if value]
            sizes_of = [(u, k, (value + 1) // 2 if states is not None else value) for u, k, value in nonzero]
            expected = [expected_sign(codes, m, c, half, *code, states is not None) for code in sizes_of]
            surprises = read([64 + cls for cls, _ in expected]) if nonzero else []
            for (u, k, value), (_, minus), surprise in zip(nonzero, expected, surprises, strict=True):
                codes[c, *u, *k] = -value if minus != (surprise != 0) else value


def dependent_magnitudes(
    classes: dict[tuple[Index, Index], int], members: list[Index], tile: list, half: int, states: dict, read: Read
) -> list[int]:
    """§7.7; classes: of the codes of a pass, by frequency and cell -> their magnitudes in the same order"""
    rows, columns = (b - a for a, b in tile)
    after = ((0, 2), (2, 0), (1, 3), (3, 1))
    found: dict[tuple[Index, Index], int] = {}
    for above, parity in itertools.product((True, False), (0, 1)):
        turn = [u for u in members if (u[0] < u[1]) == above]
        cells = itertools.product(range(parity, rows + 1, 2), range(half ^ parity, columns + 1, 2))
        chains = {(u, k): (min(u), k[0] // 2, k[1] // 2) for u, k in itertools.product(turn, cells)}
        chains = {code: c for code, c in chains.items() if c[1] < -(-rows // 2) and c[2] < -(-columns // 2)}
        here = [code for code in chains if code in classes]
        odd = {code: states.get(chain, 0) // 2 for code, chain in chains.items()}
        k = dict(zip(here, read([classes[code] + 32 * odd[code] for code in here]), strict=True))
        for code, chain in chains.items():
            states[chain] = after[states.get(chain, 0)][k.get(code, 0) % 2]
            found[code] = 2 * k[code] - odd[code] if k.get(code, 0) else 0
    return [found[code] for code in classes]


def expected_sign(
    codes: dict, m: Index, c: int, half: int, u: Index, k: Index, size: int, dependent: bool
) -> tuple[int, bool]:
    """§7.8: class, and whether negative"""
    network = sign_network()

    def g(a: int = 0, b: int = 0, side: Index = (0, 0), colour: int = c) -> int:
        code = codes.get((colour, u[0] - a, u[1] - b, k[0] + side[0], k[1] + side[1]), 0)
        size = (abs(code) + 1) // 2 if dependent else abs(code)
        return sign(code) * min(size, 4)

    def sign(x: int) -> int:
        return (x > 0) - (x < 0)

    own = ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2), (2, 1), (1, 2), (3, 0), (0, 3), (2, 2),
           (4, 0), (0, 4), (3, 1), (1, 3), (-1, 2), (2, -1), (-1, 3), (3, -1), (-2, 3), (3, -2))  # fmt: skip
    triples = "10 01 11, 20 01 21, 10 02 12, 20 02 22, 10 20 30, 01 02 03, -12 2-1 11, 30 01 31, 10 03 13"
    beside = ((1, 0), (0, 1), (2, 0), (0, 2), (1, 1), (2, 1), (1, 2), (-1, 2), (2, -1), (3, 0), (0, 3), (0, 0))
    sides = ((0, 1), (0, -1), (1, 0), (-1, 0))
    corners = ((1, 1), (1, -1), (-1, 1), (-1, -1))
    pairs = {"10": (1, 0), "01": (0, 1), "11": (1, 1), "20": (2, 0), "02": (0, 2), "21": (2, 1), "12": (1, 2),
             "22": (2, 2), "30": (3, 0), "03": (0, 3), "31": (3, 1), "13": (1, 3), "-12": (-1, 2),
             "2-1": (2, -1)}  # fmt: skip
    vertical, horizontal = (-1) ** u[0], (-1) ** u[1]
    f = [g(*o) for o in own]
    f += [math.prod(sign(g(*pairs[o])) for o in three.split()) for three in triples.split(", ")]
    f += [g(*o, side) * (horizontal if side[0] == 0 else vertical) for side in sides for o in beside]
    f += [g(*o, corner) * horizontal * vertical for corner in corners for o in ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2))]
    for other in [b for b in range(c) if b in (0, c - 1)]:

        def alike(*where: object, other: int = other) -> int:
            return sign(g(*where)) * sign(g(*where, colour=other))  # type: ignore[arg-type]

        code = g(colour=other)
        near = sum(alike(*o, side) for side in sides for o in ((1, 0), (0, 1), (1, 1)))
        same = sum(alike(0, 0, side) for side in sides)
        agreements = [alike(*o) for o in ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2))]
        f += [code] + [sign(code) * min(max(a, -4), 4) for a in (*agreements, near, same)]
    f += [0] * (113 - len(f))
    p, q = ((2 * u[i] + 1) * 16 // (2 * m[i]) for i in range(2))
    about = network.place[p, q, min(c, 2), half] + network.size[min(size, 4) - 1]
    x = [sum(int(a) * b for a, b in zip(row, f, strict=True)) for row in network.first]

    def act(y: int, shift: int) -> int:
        return min(max((y + (1 << shift - 1)) >> shift, 0), network.limit)

    def t(sense: int) -> int:
        h = [act(int(a) + sense * b, network.shift[0]) for a, b in zip(about, x, strict=True)]
        rows = zip(network.second, network.bias, strict=True)
        h = [act(int(b) + sum(int(w) * z for w, z in zip(row, h, strict=True)), network.shift[1]) for row, b in rows]
        return sum(int(w) * z for w, z in zip(network.last, h, strict=True))

    answer = t(1) - t(-1)
    return min(abs(answer) >> network.shift[2], 23), answer < 0


def leaves_of(flags: Sequence[int], node: int, n: int) -> list[int]:
    """§9.7: samples of the leaves below a node"""
    if node < len(flags) and flags[node]:
        return [*leaves_of(flags, 2 * node + 1, n // 2), *leaves_of(flags, 2 * node + 2, n - n // 2)]
    return [n]


def time_part(codes: dict, m: Index, leaves: list[tuple[int, int, int]], stops: list[int], read: Read) -> None:
    """§7.2; leaves: (cell of the tile, where its codes begin, samples)"""

    def size_of(*index: int) -> int:
        return min(abs(codes.get(index, 0)), 1023)

    def at(i: int, c: int, k: int, size: int) -> int:
        if i < 0 or not 0 <= k < size:
            return 0
        t, start, n = leaves[i]
        a = k * n // size
        b = max(a + 1, (k + 1) * n // size)
        return 8 * sum(size_of(c, start + j, t) for j in range(a, b)) // (b - a)

    for (i, (t, start, size)), c, parity in itertools.product(enumerate(leaves), range(len(stops)), (0, 1)):
        here = [k for k in range(parity, size, 2) if k * m[0] < stops[c] * size]
        contexts = []
        for k in here:
            p = {j: at(i - 1, c, k + j, size) for j in range(-2, 3)}
            q = {j: at(i - 2, c, k + j, size) for j in range(-1, 2)}
            if parity:
                own = {j: size_of(c, start + k + j, t) if 0 <= k + j < size else 0 for j in (-3, -1, 1, 3)}
                weighted = (4 * p[0] + 2 * (p[-1] + p[1]) + p[-2] + p[2] + q[0]) // 4
                weighted += 16 * (own[-1] + own[1]) + 6 * (own[-3] + own[3])
            else:
                weighted = (4 * p[0] + 3 * (p[-1] + p[1] + p[-2] + p[2]) + 2 * q[0] + q[-1] + q[1]) // 4
            weighted += 12 * sum(size_of(b, start + k, t) for b in range(c))
            level = sum(x <= weighted for x in TIME_THRESHOLDS)
            band = sum(x <= 2048 * k // size for x in (1, 3, 8, 20, 50, 120, 300))
            contexts.append(((level * 8 + band) * 2 + (c > 0)) * 2 + parity)
        if not here:
            continue
        for k, value in zip(here, read(contexts), strict=True):
            codes[c, start + k, t] = value


def smooth_part(codes: dict, n_channels: int, knots: Index, read: Read) -> None:
    """§7.3"""
    others = list(itertools.product(*(range(n) for n in knots[1:])))
    residual: dict[Index, int] = {}
    for row, c in itertools.product(range(knots[0]), range(n_channels)):
        contexts = []
        for j in range(len(others)):
            weighted = 8 * magnitude(residual, (c, row - 1, j))
            weighted += 4 * (magnitude(residual, (c, row - 1, j - 1)) + magnitude(residual, (c, row - 1, j + 1)))
            weighted += 6 * sum(magnitude(residual, (b, row, j)) for b in range(c))
            contexts.append(class_of(weighted) * 2 + (c > 0))
        for j, value in enumerate(read(contexts)):
            residual[c, row, j] = value
    d = len(knots)
    for c, row, (j, other) in itertools.product(range(n_channels), range(knots[0]), enumerate(others)):
        at = (row, *other)
        faces = sum(codes.get((c, *(x - (i == axis) for i, x in enumerate(at))), 0) for axis in range(d))
        corner = codes.get((c, *(x - 1 for x in at)), 0)
        predicted = [faces, (3 * faces - 2 * corner + 2) >> 2, (2 * faces - 2 * corner + 2) >> 2][d - 1]
        codes[c, *at] = residual[c, row, j] + predicted


def plain_part(codes: dict, classes: list[int], tile: list, read: Read) -> None:
    """§7.4"""
    cells = list(itertools.product(*(range(b - a) for a, b in tile)))
    for cls in sorted(set(classes)):
        here = [(0, j, *k) for j, own in enumerate(classes) if own == cls for k in cells]
        at, size = 0, 32
        while at < len(here):
            run = here[at : at + size]
            for index, value in zip(run, read([min(cls, 63)] * len(run)), strict=True):
                codes[index] = value
            at, size = at + size, min(2 * size, 2**16)


def splits_part(codes: dict, n_nodes: int, n_cells: int, read: Read) -> None:
    """§7.11"""
    cut = {-1: dict.fromkeys(range(n_cells), 1)}
    level, m = 0, n_cells
    while 2 ** (level + 1) - 1 <= n_nodes:
        above, now = cut[level - 1], {}
        for odd in (0, 1):
            here = [j for j in range(odd, m, 2) if level == 0 or above[j // 2]]
            hints = [
                now.get(j - 1, 0) + now.get(j + 1, 0)
                if odd
                else 0
                if level == 0
                else above.get(j // 2 - 1, 0) + above.get(j // 2 + 1, 0)
                for j in here
            ]
            flags = read([(min(level, 7) * 2 + odd) * 3 + h for h in hints])
            now |= dict.fromkeys(range(odd, m, 2), 0) | dict(zip(here, flags, strict=True))
        for j, flag in now.items():
            codes[0, 2**level - 1 + j % 2**level, j // 2**level] = flag
        cut[level] = now
        level, m = level + 1, 2 * m


def labels_part(codes: dict, size: Index, read: Read) -> None:
    """§7.5"""
    codes[0, 0, 0] = read([0])[0] - 4
    power = 1
    while power < max(size):
        power *= 2
    while power > 1:
        h = power // 2
        for a, b in ((h, h), (0, h), (h, 0)):
            rows, columns = range(a, size[0], power), range(b, size[1], power)
            per_pass = max(1, 2**16 // max(1, len(columns)))
            for start in range(0, len(rows), per_pass):
                here = list(itertools.product(rows[start : start + per_pass], columns))
                ranked, contexts = [], []
                for y, x in here:
                    near = [(y - h, x - h), (y - h, x + h), (y + h, x - h), (y + h, x + h)]
                    if a != b:
                        near = [(y - h, x), (y, x - h), (y, x + h), (y + h, x)]
                    found = [codes[0, *p] for p in near if 0 <= p[0] < size[0] and 0 <= p[1] < size[1]]
                    order = sorted(dict.fromkeys(found), key=lambda v: -found.count(v))
                    v = [*(found.count(label) for label in order), 0]
                    ranked.append(order)
                    contexts.append(((a != b) * 5 + v[0]) * 5 + v[1])
                if not here:
                    continue
                for at, order, value in zip(here, ranked, read(contexts), strict=True):
                    codes[0, *at] = order[value] if value < 4 else value - 4
        power = h
