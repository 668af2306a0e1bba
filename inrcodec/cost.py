"""What a file costs to hold and to evaluate, from its header alone (no numpy): parameters, MACs per sample."""

from __future__ import annotations

from math import prod

from .stream import Header

__all__ = ["macs_per_sample", "n_knots", "n_parameters"]


def n_knots(extent: int, pitch: int) -> int:
    """Knots of a cubic spline axis: its intervals are round(extent / pitch) equal parts; pitch 0 is a constant."""
    return max(1, (2 * extent + pitch) // (2 * pitch)) + 3 if pitch else 1


def n_parameters(header: Header) -> int:
    """Weights the file describes: for cosines one per value plus the spline knots."""
    s, f = header.signal, header.field
    if f.body == "cosine":
        knots = prod(n_knots(n, p) for n, p in zip(s.shape, f.pitch, strict=True)) if f.pitch else 0
        return s.n_values + s.channels * knots
    return 0


def macs_per_sample(header: Header) -> float:
    """Multiply-accumulates per position (all channels) at scale 1, on a lattice.

    Cosines: separable, 2M per axis (two cells overlap), 4 per axis for the splines, the colour rotation.
    """
    s, f = header.signal, header.field
    if f.body == "cosine":
        per_value = sum(2 * m for m in header.grid.largest) + 4 * len(f.pitch)
        return float(s.channels * (per_value + s.channels))
    return 0.0
