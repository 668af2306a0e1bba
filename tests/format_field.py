"""The cosine field written from FORMAT.md alone, §8, §9 and §11.1: slow and obvious."""

from __future__ import annotations

import functools
import itertools
import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import msgpack
import numpy as np
from format_tiles import leaves_of

import inrcodec

Index = tuple[int, ...]


def phi(x: float, k: int, borders: list[int], cell: int) -> float:
    a, b = borders[cell], borders[cell + 1]
    size, last = b - a, cell == len(borders) - 2
    left = min(size, a - borders[cell - 1]) / 2 if cell else 0
    right = 0 if last else min(size, borders[cell + 2] - b) / 2
    if (cell and x < a - left) or (not last and x >= b + right):
        return 0
    w = 1.0
    if left and x - a < left:
        w = math.sin(math.pi / 4 * (1 + (x - a) / left))
    elif right and x - a > size - right:
        w = math.cos(math.pi / 4 * (1 + (x - b) / right))
    w *= math.sqrt(2 / size) * (math.sqrt(0.5) if last and not k else 1)
    return w * math.cos(math.pi * (k if last else k + 0.5) * (x - a) / size)


def spline_taps(x: float, n: int, pitch: int) -> dict[int, float]:
    if not pitch:
        return {0: 1.0}
    intervals = max(1, (2 * n + pitch) // (2 * pitch))
    t = min(max(x * intervals / n, 0), intervals - 1e-9)
    i, f = math.floor(t), t - math.floor(t)
    taps = [(1 - f) ** 3 / 6, 2 / 3 - f**2 + f**3 / 2, 2 / 3 - (1 - f) ** 2 + (1 - f) ** 3 / 2, f**3 / 6]
    return {i + j: tap for j, tap in enumerate(taps)}


def changed(weights: list, codes: list[int]) -> list:
    """§9.5: weights [12][16 + 12][3][3] of the last layer"""
    w = [[*one, *([[0] * 3 for _ in range(3)] for _ in range(12))] for one in weights]
    lines = ((1, 1, 1), (1, 0, -1), (1, -2, 1))

    def sign(b: int, p: int) -> int:
        return (-1) ** (b & p).bit_count()

    for at, k in enumerate(codes):
        if not k:
            continue
        (f, pattern), (c, b) = divmod(at // 12, 9), divmod(at % 12, 4)
        inputs = [(f, 2)] if f < 16 else [(16 + (f - 16) // 4 * 4 + q, sign((f - 16) % 4, q)) for q in range(4)]
        for p, s, t, (n, factor) in itertools.product(range(4), range(3), range(3), inputs):
            w[4 * c + p][n][s][t] += factor * k * sign(b, p) * lines[pattern // 3][s] * lines[pattern % 3][t]
    return w


def residual_of(
    number: int,
    base: float,
    slope: int,
    shape: Index,
    detail: Callable,
    *,
    deltas: list[int] | None = None,
    times: int = 1,
) -> Callable[[Index], list[float]]:
    """§9.4, §9.6: a network's answer at any sample of a lattice so many times as dense. detail(sample): what it sees.
    Both in units of e."""
    with np.load(Path(inrcodec.__file__).parent / "priors" / f"synthesis_{number}.npz") as archive:
        stored = {k: archive[k].tolist() for k in archive.files}
    size, n = stored["block"], len(stored["shifts"])
    if deltas:
        stored[f"weights_{n - 1}"] = changed(stored[f"weights_{n - 1}"], deltas)
    a = min(max((round(64 * math.log2(base)) / 64 + 4) / 3, -2), 2)
    g = min(slope / 112, 2)
    facts = [1, a, a * a, g, a * g]

    @functools.cache
    def busy(row: int, column: int) -> list[int]:
        """The sizes of a block's first channel, and of the others."""
        sizes = [abs(v) for v in outputs(-1, row, column)]
        return [sum(sizes[: size**2]), sum(sizes[size**2 :])]

    @functools.cache
    def around(row: int, column: int) -> list[int]:
        """§9.4: the surroundings of a block"""
        found = []
        for channel, r in ((0, 3), (0, 6), (1, 6)):
            box = itertools.product(range(row - r, row + r + 1), range(column - r, column + r + 1))
            mean = sum(busy(*block)[channel] for block in box) // (2 * r + 1) ** 2
            found.append(8 * (((1 + min(mean, 4095)) ** 8).bit_length() - 1))
        return found

    @functools.cache
    def outputs(layer: int, row: int, column: int) -> list[int]:
        if layer < 0:
            inside = [
                tuple(min(max(v, 0), k - 1) for v, k in zip((row * size + i, column * size + j), shape, strict=True))
                for i in range(size)
                for j in range(size)
            ]
            seen = [[*detail(p), 0.0, 0.0] for p in inside]
            gray = len(detail(inside[0])) < 3
            return [min(max(round(64 * s[c]), -768), 768) if not (gray and c) else 0 for c in range(3) for s in seen]
        near = [[outputs(layer - 1, row + s - 1, column + t - 1) for t in range(3)] for s in range(3)]
        if (deltas or times > 1) and layer == n - 1:
            near = [[near[s][t] + outputs(-1, row + s - 1, column + t - 1) for t in range(3)] for s in range(3)]
        high = 1536 if layer < n - 1 else 512
        result = []
        for o, (kernel, bias) in enumerate(zip(stored[f"weights_{layer}"], stored[f"bias_{layer}"], strict=True)):
            total = round(sum(b * f for b, f in zip(bias, facts, strict=True)))
            for i, w in enumerate(kernel):
                total += sum(w[s][t] * near[s][t][i] for s in range(3) for t in range(3))
            if layer == 0 and "surroundings" in stored:
                total += sum(w * z for w, z in zip(stored["surroundings"][o], around(row, column), strict=True))
            total = math.floor(total / 2 ** stored["shifts"][layer] + 0.5)
            signed = o < stored["signed"][layer]
            result.append(min(max(total, -high if signed else 0), high if signed or layer != n - 2 else 256))
        if layer == n - 2:
            half = len(result) // 2
            return [math.floor(y * g / 256 + 0.5) for y, g in zip(result[:half], result[half:], strict=True)]
        return result

    def residual(at: Index) -> list[float]:
        wide = times * size
        last = outputs(n - 1, at[0] // wide, at[1] // wide)
        return [last[wide**2 * c + wide * (at[0] % wide) + at[1] % wide] / 64 for c in range(3)]

    return residual


def split(borders: list[int], flags: np.ndarray) -> tuple[list[list[int]], dict[Index, Index]]:
    """§9.7: the borders of all leaves, and where their heads are"""
    ends, where = [0], {}
    for t, (start, stop) in enumerate(itertools.pairwise(borders)):
        place = 0
        for size in leaves_of(flags[0, :, t], 0, stop - start):
            where |= {(k, len(ends) - 1): (place + k, t) for k in range(size)}
            place += size
            ends.append(start + place)
    return [ends], where


def field_of(data: bytes, codes: list[np.ndarray], scale: float = 1.0) -> Callable[[Sequence[float]], list[float]]:
    """§8, §9 and §11.1: values of all channels at any position, before §11.2, for an output of that scale"""
    length = struct.unpack_from("<I", data, 8)[0]
    _, _, signal, m, field, (steps, slope, one, more, *second), _, _ = msgpack.unpackb(data[18 : 16 + length])
    kind, shape, channels, _, colour = signal[:5]
    q, d = steps[0] / 2**24, len(shape)
    borders = [[c * n // k for c in range(k + 1)] for n, k in zip(shape, m, strict=True)]
    largest = [max(np.diff(b)) for b in borders]
    heads = codes[-1]
    _, _, pitch, quaternion, masking, synthesis, detailed, dependent, deltas, *splits = field[:10]
    cells = m
    splits = splits if splits != [0] else []  # of a file that names contexts
    if splits:
        borders, head_of = split(borders[0], codes[0])
        cells = [len(borders[0]) - 1]

    def mask_at(x: Sequence[float]) -> float:
        """§8: the factor of the steps at a position"""
        if not masking:
            return 1.0
        taps = [spline_taps(v, n, p) for v, n, p in zip(x, shape, pitch, strict=True)]
        z = 0.0
        for near in itertools.product(*(t.items() for t in taps)):
            code = int(codes[0][(channels, *(i for i, _ in near))])
            z += min(max(code, -64), 64) / 4 * math.prod(t for _, t in near)
        return 2 ** min(max(z, -8), 8)

    @functools.cache
    def mask(cell: Index) -> float:
        return mask_at([(b[c] + b[c + 1]) / 2 for b, c in zip(borders, cell, strict=True)])

    @functools.cache
    def sums(x: Sequence[float], corrected: bool) -> tuple[list[float], list[float]]:
        """§9: the cosines' sum and the splines' value; corrected: by §9.4"""
        bases = [
            {
                (k, c): v
                for c in range(cells[i])
                for k in range(borders[i][c + 1] - borders[i][c])
                if (v := phi(x[i], k, borders[i], c))
            }
            for i in range(d)
        ]
        y, smooth = [0.0] * channels, [0.0] * channels
        for picked in itertools.product(*(basis.items() for basis in bases)):
            u = [k for (k, _), _ in picked]
            cell = tuple(cell for (_, cell), _ in picked)
            most = [borders[0][cell[0] + 1] - borders[0][cell[0]]] if splits else largest
            r = math.sqrt(sum(((k + 0.5) / n) ** 2 for k, n in zip(u, most, strict=True)) / d)
            weight = (5 / 8 if dependent else 1) * q * (1 + slope / 16 * r) * math.prod(v for _, v in picked)
            weight *= mask(cell) if masking else 1
            for c in range(channels):
                code = int(heads[(c, *(head_of[u[0], cell[0]] if splits else (*u, *cell)))])
                size = abs(code) - (one / 64 if abs(code) == 1 else more / 64 if code else 0)
                y[c] += math.copysign(size, code) * weight * (second[0] / 16 if second and c == 1 else 1)
                if corrected and c < (3 if colour in (3, 4) else 1):
                    y[c] += correction(c, tuple(u), cell) * math.prod(v for _, v in picked)
        if pitch:
            taps = [spline_taps(v, n, p) for v, n, p in zip(x, shape, pitch, strict=True)]
            for picked in itertools.product(*(t.items() for t in taps)):
                tap = math.prod(t for _, t in picked)
                for c in range(channels):
                    smooth[c] += int(codes[0][(c, *(i for i, _ in picked))]) * q / 4 * tap
        return y, smooth

    base = q * (1 + slope / 16 * 0.3)

    @functools.cache
    def local_step(at: Index) -> float:
        return base * mask_at([i + 0.5 for i in at])

    def detail(at: Index) -> list[float]:
        return [v / local_step(at) for v in sums(tuple(i + 0.5 for i in at), False)[0]]

    residual = (
        residual_of(synthesis, base, slope, shape, detail, deltas=codes[1].ravel().tolist() if deltas else None)
        if synthesis
        else None
    )

    @functools.cache
    def correction(c: int, u: Index, cell: Index) -> float:
        """§9.4: what a head gains"""
        lines = [
            {i: v for i in range(n) if (v := phi(i + 0.5, k, b, j))}
            for n, k, b, j in zip(shape, u, borders, cell, strict=True)
        ]
        total = 0.0
        for picked in itertools.product(*(line.items() for line in lines)):
            at = tuple(i for i, _ in picked)
            total += residual(at)[c] * local_step(at) * math.prod(v for _, v in picked)
        return total

    coloured = range(3 if colour in (3, 4) else 1)
    finer = [[2 * a for a in b] for b in borders]

    @functools.cache
    def seen(at: Index) -> list[float]:
        return [12 * v for v in sums(tuple(i + 0.5 for i in at), bool(synthesis))[0]]

    added = residual_of(detailed, base, slope, shape, seen, times=2) if detailed else None

    @functools.cache
    def enlarged(at: Index) -> list[float]:
        """§9.6: p, in units of e"""
        p = [0.0] * channels
        for taps in itertools.product(enumerate((2, -17, 69, 229, -34, 7)), repeat=2):
            near = tuple(
                min(max(i // 2 + (-1) ** (i % 2) * (k - 3), 0), n - 1)
                for i, (k, _), n in zip(at, taps, shape, strict=True)
            )
            for c, y in enumerate(seen(near)):
                p[c] += y * math.prod(t for _, t in taps) / 65536
        return p

    @functools.cache
    def addition(c: int, u: Index, cell: Index) -> float:
        """§9.6: what a head of the finer field gains, before its share"""
        if c not in coloured or any(k + 0.5 >= scale * n for k, n in zip(u, largest, strict=True)):
            return 0.0
        lines = [
            {i: v for i in range(2 * n) if (v := phi(i + 0.5, k, b, j))}
            for n, k, b, j in zip(shape, u, finer, cell, strict=True)
        ]
        total = 0.0
        for picked in itertools.product(*(line.items() for line in lines)):
            at = tuple(i for i, _ in picked)
            total += (added(at)[c] + enlarged(at)[c]) / 12 * math.prod(v for _, v in picked)
        return total

    def detail_at(x: Sequence[float]) -> list[float]:
        """§9.6: what the finer field has besides its share of the corrected one, before its own"""
        y = [0.0] * channels
        bases = [
            {
                (k, c): v
                for c in range(m[i])
                for k in range(finer[i][c + 1] - finer[i][c])
                if (v := phi(2 * x[i], k, finer[i], c))
            }
            for i in range(d)
        ]
        for picked in itertools.product(*(basis.items() for basis in bases)):
            u, cell = (tuple(pair[i] for pair, _ in picked) for i in range(2))
            for c in coloured:
                y[c] += addition(c, u, cell) * math.prod(v for _, v in picked)
        return y

    n = 3 if colour in (3, 4) else 2 if kind == 2 and channels == 2 else 0
    rotation = np.eye(channels)
    for k, i in itertools.product(range(n), repeat=2):
        rotation[k, i] = math.sqrt(2 / n) * math.cos(math.pi * (2 * i + 1) * k / (2 * n)) if k else math.sqrt(1 / n)
    if quaternion:
        w, i, j, k = np.array(quaternion) / math.sqrt(sum(v * v for v in quaternion))
        turn = [
            [1 - 2 * (j * j + k * k), 2 * (i * j - w * k), 2 * (i * k + w * j)],
            [2 * (i * j + w * k), 1 - 2 * (i * i + k * k), 2 * (j * k - w * i)],
            [2 * (i * k - w * j), 2 * (j * k + w * i), 1 - 2 * (i * i + j * j)],
        ]
        rotation[:3, :3] = np.array(turn) @ rotation[:3, :3]

    def value(x: Sequence[float]) -> list[float]:
        own, smooth = sums(tuple(x), bool(synthesis))
        if detailed and scale > 1:
            g, more = min(scale - 1, 1), detail_at(x)
            own = [(1 - g) * a + g * b if c in coloured else a for c, (a, b) in enumerate(zip(own, more, strict=True))]
        y = [a + b for a, b in zip(own, smooth, strict=True)]
        centre = 0 if kind == 2 else 0.5
        return [sum(y[k] * rotation[k, i] for k in range(channels)) + centre for i in range(channels)]

    return value
