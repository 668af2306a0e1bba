"""The partition of a signal's axes into cells, by integer borders."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

__all__ = ["CELL_SAMPLES", "Grid", "parse_cells"]

# Samples per cell and axis of the cosine field where no --grid is given, by number of axes: what pictures start from,
# until the step is known that says which cells suit them (fields.sizes); sounds have fields.cosine.SOUND_CELL.
CELL_SAMPLES = {1: (2048,), 2: (16, 16), 3: (8, 8, 8)}


@dataclass(frozen=True)
class Grid:
    """Cells of a D-dimensional signal. Axis d has len(borders[d]) - 1 cells; cell c covers
    [borders[d][c], borders[d][c + 1]) in sample units, sample i having its centre at i + 1/2."""

    borders: tuple[tuple[int, ...], ...]

    @classmethod
    def uniform(cls, shape: tuple[int, ...], cells: tuple[int, ...]) -> Grid:
        """cells[d] cells on axis d, border c at floor(c · n / cells): sizes differ by at most one sample.

        Raises ValueError where an axis has more cells than samples.
        """
        if len(shape) != len(cells):
            raise ValueError(f"grid has {len(cells)} axes, signal has {len(shape)}")
        for n, m in zip(shape, cells, strict=True):
            if not 1 <= m <= n:
                raise ValueError(f"grid asks for {m} cells on an axis of {n} samples")
        return cls(tuple(tuple(c * n // m for c in range(m + 1)) for n, m in zip(shape, cells, strict=True)))

    @classmethod
    def fitting(cls, shape: tuple[int, ...]) -> Grid:
        """The default grid: as many cells as bring their size nearest to CELL_SAMPLES."""
        wanted = CELL_SAMPLES[len(shape)]
        return cls.uniform(shape, tuple(max(1, round(n / m)) for n, m in zip(shape, wanted, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Samples per axis."""
        return tuple(b[-1] for b in self.borders)

    @property
    def cells(self) -> tuple[int, ...]:
        """Cells per axis."""
        return tuple(len(b) - 1 for b in self.borders)

    @property
    def name(self) -> str:
        """As `--grid` takes it: COLUMNSxROWS."""
        return "x".join(map(str, self.cells[::-1]))

    @property
    def n_cells(self) -> int:
        n = 1
        for m in self.cells:
            n *= m
        return n

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Samples of each cell, per axis."""
        return tuple(tuple(b - a for a, b in pairwise(axis)) for axis in self.borders)

    @property
    def largest(self) -> tuple[int, ...]:
        """Samples of the largest cell, per axis."""
        return tuple(max(axis) for axis in self.sizes)


def parse_cells(text: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """`--grid` text -> cells per axis; None for `auto`.

    '16' is 16 cells on every axis, '16x12' is 16 columns by 12 rows (width first, as sizes are written for
    pictures), '16x12x4' lists the axes last to first. Raises ValueError.
    """
    if text == "auto":
        return None
    parts = text.lower().split("x")
    if not all(p.isascii() and p.isdigit() and 0 < len(p) < 10 for p in parts):
        raise ValueError(f"--grid {text}: wanted a number, COLUMNSxROWS, or auto")
    counts = tuple(int(p) for p in parts)
    if len(counts) == 1:
        counts = counts * len(shape)
    if len(counts) != len(shape):
        raise ValueError(f"--grid {text}: {len(counts)} numbers for a signal of {len(shape)} axes")
    cells = counts[::-1]
    for n, m in zip(shape, cells, strict=True):
        if not 1 <= m <= n:
            raise ValueError(f"--grid {text}: {m} cells on an axis of {n} samples")
    return cells
