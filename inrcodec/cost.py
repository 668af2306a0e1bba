"""What a file costs to hold and to evaluate, from its header alone (no numpy): parameters, MACs per sample."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from .stream import Header

__all__ = ["largest_cell", "layer_sizes", "macs_per_sample", "n_knots", "n_network_parameters", "n_parameters"]


def n_knots(extent: int, pitch: int) -> int:
    """Knots of a cubic spline axis: its intervals are round(extent / pitch) equal parts; pitch 0 is a constant."""
    return max(1, (2 * extent + pitch) // (2 * pitch)) + 3 if pitch else 1


def n_parameters(header: Header) -> int:
    """Weights the file describes: for cosines one per value plus the spline knots; for MLPs all their weights and
    biases. A Python int from Python ints: it bounds what a hostile header can ask for."""
    s, f = header.signal, header.field
    if f.body == "cosine":
        knots = prod(n_knots(n, p) for n, p in zip(s.shape, f.pitch, strict=True)) if f.pitch else 0
        return s.n_values + (s.channels + f.masking) * knots
    if f.arch == "ensemble":
        return n_network_parameters(header) * prod(header.cells)
    return n_network_parameters(header) + (f.width + 1) * s.channels * prod(header.cells)


def n_network_parameters(header: Header) -> int:
    """Weights and biases of one MLP, with n_in -> width -> depth × width -> n_out units; 0 for cosines."""
    f = header.field
    if f.body == "cosine":
        return 0
    n_out = header.signal.channels if f.arch == "ensemble" else f.width
    return _mlp_macs(header, n_out) + (f.depth + 1) * f.width + n_out


def macs_per_sample(header: Header) -> float:
    """Multiply-accumulates per position (all channels) at scale 1, on a lattice.

    Cosines: separable, 2M per axis (two cells overlap), 4 per axis for the splines, the colour rotation. MLPs: one
    network per position; a shared body runs once for all cells of one shape, the heads at every position.
    """
    s, f = header.signal, header.field
    if f.body == "cosine":
        per_value = sum(2 * m for m in largest_cell(header)) + 4 * len(f.pitch)
        return float(s.channels * (per_value + s.channels))
    frozen = len(s.shape) * f.features
    if f.arch == "ensemble":
        return float(frozen + _mlp_macs(header, s.channels))
    shapes = prod(1 + (n % m > 0) for n, m in zip(s.shape, header.cells, strict=True))
    return (frozen + _mlp_macs(header, f.width)) * shapes / prod(header.cells) + (f.width + s.channels) * s.channels


def layer_sizes(*, fin: int, width: int, depth: int, fout: int, features: int = 0) -> tuple[tuple[int, int], ...]:
    """(in, out) of each layer of an MLP; features: of frozen frequencies before it, each a sine and a cosine."""
    return tuple(pairwise((2 * features or fin, *[width] * (depth + 1), fout)))


def largest_cell(header: Header) -> tuple[int, ...]:
    """header.grid.largest, at no cost however many cells a hostile header claims."""
    return tuple(-(-n // m) for n, m in zip(header.signal.shape, header.cells, strict=True))


def _mlp_macs(header: Header, n_out: int) -> int:
    f = header.field
    n_in = 2 * f.features if f.body == "fourier" else len(header.signal.shape)
    return n_in * f.width + f.depth * f.width**2 + f.width * n_out
