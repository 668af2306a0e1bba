"""What an .inr file says, as Python values: the header, the layout of the integer codes, the payloads.

Needs no numpy: `info` reads a file with this module and formats.container alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .grid import Grid
from .signals import SignalMeta

if TYPE_CHECKING:
    from .entropy.context import OwnContexts

__all__ = [
    "FieldSpec",
    "Header",
    "Part",
    "Quantiser",
    "Stream",
    "TensorLayout",
    "EQUAL",
    "MAX_CODE",
    "MAX_MDB",
    "MAX_SECOND",
    "MAX_SEGMENTS",
    "MAX_SPLITS",
    "SMALLEST_LEAF",
    "STEP_UNIT",
    "n_tiles",
    "plan",
    "tiles",
]

MAX_CODE = 2**30 - 1  # largest magnitude a code may have
MAX_MDB = 1_000_000  # quality_mdb of an exact reconstruction
MAX_SEGMENTS = 4096  # of a label map
MAX_SPLITS = 10  # levels of halves of a cell
SMALLEST_LEAF = 16  # samples of what it is cut into, at least: bounds the work that few bytes can ask for
STEP_UNIT = 2.0**-24  # Quantiser.steps count these
EQUAL, MAX_SECOND = 16, 255  # Quantiser.second: all channels have the same steps; at most
TILE_CELLS = {1: 64, 2: 64, 3: 16}  # cells per axis that share adaptive state and a byte range, by axes


@dataclass(frozen=True)
class FieldSpec:
    """Which family of functions the file stores; with SignalMeta and Grid it fixes the shape of all weights."""

    arch: str  # multihead | ensemble
    body: str  # cosine | relu | siren | fourier
    width: int = 0  # MLP bodies: units per hidden layer
    depth: int = 0  # MLP bodies: hidden layers after the first
    omega: int = 0  # siren: frequency factor of the first layer; fourier: scale of the features
    features: int = 0  # fourier: number of frozen random frequencies
    seed: int = 0  # of everything random that the decoder draws again
    connections: int = 0  # multihead relu: features that each head is connected to, drawn from the seed; 0 all
    segments: int = 0  # ensemble: networks, one per segment of a label map; 0 where there is one per cell
    prior: int = 0  # ensemble: id of the prior that the codes are relative to; cosine on two axes: of the learned
    # contexts that they are coded under; 0 none, or the released ones
    kept: int = 0  # with a prior: weights that each network stores
    pitch: tuple[int, ...] = ()  # cosine: samples between spline knots, per axis; () without the smooth level
    rotation: tuple[int, ...] = ()  # cosine: colour.rotation's quaternion; () the fixed rotation
    masking: bool = False  # cosine: the smooth level has one channel more, of step sizes by region
    synthesis: int = 0  # cosine: id of the network that corrects the picture; 0 none
    detail: int = 0  # cosine: id of the network that knows what is missing above scale 1; 0 none
    splits: int = 0  # cosine, sounds: levels of halves that a cell may be cut into
    deltas: bool = False  # with a synthesis network: the file changes its last layer
    dependent: bool = False  # cosine on two axes: the heads' quantiser depends on the codes before


@dataclass(frozen=True)
class Quantiser:
    """steps: in STEP_UNIT, one per parameter group of the field. slope: γ in 1/16, of steps that grow with
    frequency. shrink: reconstruction moves |code| = 1, and |code| >= 2, towards zero by this many 1/64 steps
    (away from it, where negative); of dependent heads, half steps. second: steps of a picture's second channel are so
    many sixteenths of the others'."""

    steps: tuple[int, ...]
    slope: int = 0
    shrink: tuple[int, ...] = (0, 0)
    second: int = EQUAL


@dataclass(frozen=True)
class Header:
    signal: SignalMeta
    cells: tuple[int, ...]  # cells per axis of a uniform grid
    field: FieldSpec
    quantiser: Quantiser
    coder: str  # zstd | range
    table_set: int = 0  # range: which released starting tables; zstd: 0
    levels: tuple[int, ...] = ()  # frequency diagonals at which the heads are cut into progressive levels
    quality_mdb: int = 0  # measured by the encoder, 1/1000 dB: PSNR, for sounds SNR; 0 unknown, MAX_MDB exact
    encoder: tuple[int, int, int] = (0, 0, 0)  # version of the encoder

    @property
    def grid(self) -> Grid:
        return Grid.uniform(self.signal.shape, self.cells)

    @property
    def heads(self) -> tuple[int, ...]:
        """The lattice of heads: one per cell, or one per segment."""
        return (self.field.segments,) if self.field.segments else self.cells

    @property
    def n_chunks(self) -> int:
        """len(plan(layouts, levels)), known before any layout is made: the heads' chunks, and one for what all
        cells share (spline level, deltas, body, label map, splits) where several tiles keep it apart."""
        areas = n_tiles(self.heads)
        f = self.field
        shares = f.segments > 0 or (f.arch == "multihead" and (f.body != "cosine" or bool(f.pitch) or f.splits > 0))
        return (len(self.levels) + 1) * areas + int(shares and areas > 1)


@dataclass(frozen=True)
class TensorLayout:
    """Shape of one tensor of integer codes [C, *frequencies, *cells], known from the header alone.

    sizes[d][c] is the number of frequencies cell c has on axis d: codes at or above it do not exist (they are
    0 in memory and absent from the file). () where all exist. bands: for tensors without frequency order
    (MLP weights), the statistical class of each index of the only frequency axis; of a label map, the number of labels.
    contexts: of pictures, where they are not the released ones.
    """

    name: str  # spline | deltas | body | labels | splits | heads
    context: str  # cosine | smooth | sparse | plain | labels | splits: which neighbours predict a code
    channels: int
    frequencies: tuple[int, ...]
    cells: tuple[int, ...]
    sizes: tuple[tuple[int, ...], ...] = ()
    bands: tuple[int, ...] = ()
    dependent: bool = False  # codes are half steps of dependent quantisation
    contexts: OwnContexts | None = None
    split: bool = False  # a cell has the codes of its parts end to end; the file's first tensor says which these are

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, *self.frequencies, *self.cells)

    @property
    def n_diagonals(self) -> int:
        """Frequencies are coded by diagonals: sets of equal index sum. Plain tensors have one."""
        return sum(f - 1 for f in self.frequencies) + 1 if self.context == "cosine" else 1


@dataclass(frozen=True)
class Part:
    """A piece of one tensor that is coded in one go: the cells of a tile, the diagonals low <= sum < high."""

    tensor: int
    tile: tuple[tuple[int, int], ...]  # per cell axis (start, stop)
    low: int
    high: int

    @property
    def index(self) -> tuple[Any, ...]:
        """Of its tile in the codes of its tensor, and in all that has cells last."""
        return (..., *(slice(a, b) for a, b in self.tile))


@dataclass(frozen=True)
class Stream:
    """payloads[i] holds chunk i of plan(layouts, levels); None where it was not read."""

    header: Header
    payloads: tuple[bytes | None, ...]
    digest: bytes  # of all codes; b"" where the end was not read
    metadata: dict[str, bytes] = field(default_factory=dict)


def n_tiles(cells: tuple[int, ...]) -> int:
    """len(tiles(cells)), at no cost however large a hostile header makes them."""
    n = 1
    for m in cells:
        n *= -(-m // TILE_CELLS[len(cells)])
    return n


def tiles(cells: tuple[int, ...]) -> list[tuple[tuple[int, int], ...]]:
    """Tiles of a grid of cells in row-major order."""
    side = TILE_CELLS[len(cells)]
    result: list[tuple[tuple[int, int], ...]] = [()]
    for n in cells:
        result = [(*t, (a, min(a + side, n))) for t in result for a in range(0, n, side)]
    return result


def plan(layouts: tuple[TensorLayout, ...], levels: tuple[int, ...]) -> list[tuple[Part, ...]]:
    """The chunks of a file, in order: shared tensors whole, then the heads level by level, tile by tile.

    With a single tile the shared tensors ride in the first chunk of the heads, which spares its framing.
    """
    *shared, heads = range(len(layouts))
    first = tuple(Part(i, tuple((0, n) for n in layouts[i].cells), 0, layouts[i].n_diagonals) for i in shared)
    areas = tiles(layouts[heads].cells)
    bounds = (0, *levels, layouts[heads].n_diagonals)
    chunks: list[tuple[Part, ...]] = [
        (Part(heads, area, low, high),) for low, high in pairwise(bounds) for area in areas
    ]
    if not first:
        return chunks
    return [first + chunks[0], *chunks[1:]] if len(areas) == 1 else [first, *chunks]
