"""What a file costs to hold and to evaluate, from its header alone (no numpy): parameters, MACs, FLOPs."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from .stream import FieldSpec, Header

__all__ = [
    "flops",
    "largest_cell",
    "layer_sizes",
    "macs_per_sample",
    "mlp_parameters",
    "n_knots",
    "n_network_parameters",
    "n_parameters",
    "ptflops_style",
    "N_DELTAS",
]

SYNTHESIS_MACS = {14: 2626.5, 15: 2626.5}  # per sample, by the number of the synthesis network
DETAIL_MACS = 8208  # per input sample, of the detail network
DELTA_MACS = 324  # more where a file lets its last layer see the input: 12 channels, 12 outputs, 9 taps, a quarter each
N_DELTAS = (16 + 12) * 9 * 12  # codes that change a last layer: see fields.deltas


def n_knots(extent: int, pitch: int) -> int:
    """Knots of a cubic spline axis: its intervals are round(extent / pitch) equal parts; pitch 0 is a constant."""
    return max(1, (2 * extent + pitch) // (2 * pitch)) + 3 if pitch else 1


def n_parameters(header: Header) -> int:
    """Weights the file describes: for cosines one per value plus the spline knots; for MLPs all their weights and
    biases (those of a prior left out). Labels of a map of segments and splits of cells are not counted. A Python int
    from Python ints: it bounds what a hostile header can ask for."""
    s, f = header.signal, header.field
    if f.body == "cosine":
        knots = prod(n_knots(n, p) for n, p in zip(s.shape, f.pitch, strict=True)) if f.pitch else 0
        return s.n_values + (s.channels + f.masking) * knots + N_DELTAS * f.deltas
    if f.arch == "ensemble":
        return (f.kept or n_network_parameters(header)) * prod(header.heads)
    return n_network_parameters(header) + ((f.connections or f.width) + 1) * s.channels * prod(header.cells)


def n_network_parameters(header: Header) -> int:
    """Weights and biases of one MLP, with n_in -> width -> depth × width -> n_out units; 0 for cosines."""
    return mlp_parameters(header.field, len(header.signal.shape), header.signal.channels)


def mlp_parameters(field: FieldSpec, axes: int, channels: int) -> int:
    """n_network_parameters of a field on a signal of so many axes and channels."""
    if field.body == "cosine":
        return 0
    outputs = _n_out(field, channels)
    return _mlp_macs(field, axes, channels) + (field.depth + 1) * field.width + outputs


def macs_per_sample(header: Header, *, scaled: bool = False, enlarged: bool = False) -> float:
    """Multiply-accumulates per position (all channels) at scale 1, on a lattice.

    Cosines: separable, 2M per axis (two cells overlap), 4 per axis for the splines, the colour rotation; a synthesis
    network sees the cosines' sum and one channel's spline. MLPs: one network per position; a shared body runs once for
    all cells of one shape, the heads at every position.

    A sound counts as if no cell were cut: at most this.

    scaled: at most what a position of an output at another scale takes, where what a network answers goes back through
    the cosines first. enlarged: above scale 1, with its detail besides.
    """
    s, f = header.signal, header.field
    if f.body == "cosine":
        cosines, splines = sum(2 * m for m in largest_cell(header)), 4 * len(f.pitch)
        network = SYNTHESIS_MACS.get(f.synthesis, 0) + DELTA_MACS * f.deltas
        correction = (2 * s.channels * cosines * scaled + splines + network) if f.synthesis else 0
        if enlarged and f.detail:  # seen at scale 1; analysed, and evaluated, with twice the functions
            correction += s.channels * cosines * (1 + 4 * 2 + 1) + DETAIL_MACS
        return float(s.channels * (cosines + splines + s.channels) + correction)
    network = len(s.shape) * f.features + _mlp_macs(f, len(s.shape), s.channels)
    if f.arch == "ensemble":
        return float(network)
    shapes = prod(1 + (n % m > 0) for n, m in zip(s.shape, header.cells, strict=True))
    return network * shapes / prod(header.cells) + ((f.connections or f.width) + s.channels) * s.channels


def layer_sizes(*, fin: int, width: int, depth: int, fout: int, features: int = 0) -> tuple[tuple[int, int], ...]:
    """(in, out) of each layer of an MLP; features: of frozen frequencies before it, each a sine and a cosine."""
    return tuple(pairwise((2 * features or fin, *[width] * (depth + 1), fout)))


def flops(header: Header) -> int:
    """FLOPs of decoding the whole signal at scale 1, counted as the paper of its family does.

    Ensembles: ENRP's F(N, d, w), see ptflops_style; with frozen features biases once per cell, as in its figure 6.
    Multihead MLPs: as the code of MH-ReLU (arXiv 2110.03448) counts, biases at every position, the body once for all H
    heads. Cosines: two a MAC.
    """
    s, f = header.signal, header.field
    n, heads = s.n_samples, prod(header.heads)
    if f.body == "cosine":
        return round(2 * macs_per_sample(header) * n)
    fin = 2 * f.features if f.body == "fourier" else len(s.shape)
    if f.arch == "ensemble":
        copies = heads if f.body == "fourier" else 1
        return ptflops_style(n, f.width, f.depth, fin=fin, fout=s.channels, bias_copies=copies)
    body = 2 * fin * f.width + f.width + f.depth * (2 * f.width**2 + f.width)
    if not f.connections:
        body += 2 * f.width**2 + f.width  # our linear layer between the hidden units and the heads
    return round((body + (2 * (f.connections or f.width) + 1) * s.channels * heads) * n / heads)


def ptflops_style(n: int, width: int, depth: int, *, fin: int = 2, fout: int = 3, bias_copies: int = 1) -> int:
    """FLOPs of n positions as ENRP's Table I has them (arXiv 2110.04124; the tool ptflops, doubled): 2 · [n · MACs +
    biases once], sines not counted.

    fin: inputs of the first trained layer; frozen features before it are not counted.
    """
    macs = fin * width + depth * width**2 + width * fout
    return 2 * (n * macs + bias_copies * (width * (depth + 1) + fout))


def largest_cell(header: Header) -> tuple[int, ...]:
    """header.grid.largest, at no cost however many cells a hostile header claims."""
    return tuple(-(-n // m) for n, m in zip(header.signal.shape, header.cells, strict=True))


def _n_out(field: FieldSpec, channels: int) -> int:
    """Units of the MLP's linear layer at the end; 0 where it ends in the last hidden one (sparse heads)."""
    if field.connections:
        return 0
    return channels if field.arch == "ensemble" else field.width


def _mlp_macs(field: FieldSpec, axes: int, channels: int) -> int:
    n_in = 2 * field.features if field.body == "fourier" else axes
    return n_in * field.width + field.depth * field.width**2 + field.width * _n_out(field, channels)
