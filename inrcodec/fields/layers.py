"""The one MLP core: shapes, initial values and evaluation of many small networks at once.

Network g of G has layers y = x W + b with W [G, in, out] and b [G, out]; hidden layers end in a sine or a ReLU, the
last one is linear. Values lie feature-first, [G, features, N], so that the long axis N is the contiguous one.
Torch is imported inside the functions that train; evaluation (`evaluate`) is numpy in float64 and needs none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ..cost import layer_sizes

if TYPE_CHECKING:
    import torch

__all__ = [
    "BIAS_RULES",
    "FOURIER_FEATURES",
    "HIDDEN_OMEGA",
    "INIT_RULES",
    "MlpShape",
    "evaluate",
    "flatten",
    "forward",
    "fourier_matrix",
    "initial",
    "unflatten",
]

HIDDEN_OMEGA = 30.0  # SIREN: frequency factor of every sine layer after the first; 200 in Meta-SparseINR's
# frozen frequencies of a fourier body, by what its weights are worth: a copy per cell, one for all, one for all files
FOURIER_FEATURES = {"ensemble": 4, "multihead": 16, "prior": 32}
BIAS_RULES = ("1/sqrt(in)", "1/sqrt(in*out)", "zero", "same as weights")
INIT_RULES = ("body", "siren", "glorot")


@dataclass(frozen=True)
class MlpShape:
    """fin -> [frozen Fourier features ->] width -> depth × width -> fout; activation after all but the last layer.

    The flat order of a network's P parameters is W1 (in × out, row by row), b1, W2, b2, …
    """

    fin: int
    width: int
    depth: int
    fout: int  # 0: the network ends in its last hidden layer (what `hidden` asks for)
    body: str  # siren | relu | fourier
    omega: float = HIDDEN_OMEGA  # siren: factor of the first layer; fourier: factor of the frozen frequencies
    features: int = 0  # fourier: number of frozen frequencies; each gives a sine and a cosine
    seed: int = 0  # fourier: of the frozen frequencies
    hidden_omega: float = HIDDEN_OMEGA  # siren: factor of the layers after the first; files have none but this

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of each layer."""
        features = self.features if self.body == "fourier" else 0
        return layer_sizes(fin=self.fin, width=self.width, depth=self.depth, fout=self.fout, features=features)

    @property
    def n_parameters(self) -> int:
        return sum(i * o + o for i, o in self.sizes)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one position, biases and activations not counted."""
        frozen = self.fin * self.features if self.body == "fourier" else 0
        return frozen + sum(i * o for i, o in self.sizes)

    @property
    def groups(self) -> tuple[int, ...]:
        """The statistical class of each parameter: 2 · layer for a weight, 2 · layer + 1 for a bias."""
        classes: list[int] = []
        for layer, (i, o) in enumerate(self.sizes):
            classes += [2 * layer] * (i * o) + [2 * layer + 1] * o
        return tuple(classes)

    @cached_property
    def frozen(self) -> np.ndarray:
        """The frozen frequencies, float64 [features, fin]."""
        return fourier_matrix(self.features, self.fin, self.seed) * self.omega


def fourier_matrix(features: int, fin: int, seed: int) -> np.ndarray:
    """Standard normal float64 [features, fin], the same on every platform: the decoder draws it again.

    Philox integers by Box-Muller, rounded to 1/4096: libraries' log and cos differ in last bits, not in these.
    """
    raw = np.random.Philox(key=seed).random_raw(2 * features * fin).reshape(2, -1)
    u, v = ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    normal = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * v)
    return np.rint(normal * 4096).reshape(features, fin) / 4096


def initial(
    shape: MlpShape,
    groups: int,
    *,
    generator: torch.Generator,
    bias: str,
    init: str = "body",
) -> list[torch.Tensor]:
    """Initial parameters W1 [G, in, out], b1 [G, out], W2, … as float32 leaves on the CPU that ask for gradients.

    siren: U(±1/fin), then U(±sqrt(6/width)/30) (SIREN); others: He's U(±sqrt(6/in)), the last layer U(±sqrt(3/in)).
    init: 'body' for that, 'siren' for SIREN's ranges in every body: what ENRP's published ReLU curves were made with;
    'glorot' for U(±sqrt(6/(in + out))), MH-ReLU's.
    bias: one of BIAS_RULES. '1/sqrt(in*out)' is what ENRP's batched layer draws, by an accident of its fan-in
    routine that is worth 8 dB; 'same as weights' is Meta-SparseINR's. Raises ValueError.
    """
    import torch

    if bias not in BIAS_RULES:
        raise ValueError(f"bias {bias!r}: wanted one of {', '.join(BIAS_RULES)}")
    if init not in INIT_RULES:
        raise ValueError(f"init {init!r}: wanted one of {', '.join(INIT_RULES)}")
    parameters = []
    last = len(shape.sizes) - 1
    for layer, (i, o) in enumerate(shape.sizes):
        if "siren" in (shape.body, init):
            bound = 1 / i if layer == 0 else math.sqrt(6 / i) / shape.hidden_omega
        elif init == "glorot":
            bound = math.sqrt(6 / (i + o))
        else:
            bound = math.sqrt((3 if layer == last else 6) / i)
        bias_bounds = {
            "1/sqrt(in)": i**-0.5,
            "1/sqrt(in*out)": max(1, i * o) ** -0.5,
            "zero": 0.0,
            "same as weights": bound,
        }
        bias_bound = bias_bounds[bias]
        for size, limit in (((groups, i, o), bound), ((groups, o), bias_bound)):
            # drawn on the CPU: the same start on every device
            values = (torch.rand(size, generator=generator) * 2 - 1) * limit
            parameters.append(values.requires_grad_())
    return parameters


def forward(
    shape: MlpShape, parameters: Sequence[torch.Tensor], coords: torch.Tensor, *, hidden: bool = False
) -> torch.Tensor:
    """coords [G, fin, N] -> values [G, fout, N]; with hidden, the last hidden layer [G, width, N] instead.

    parameters: as `initial` gives them, W [G, in, out] and b [G, out].
    """
    import torch

    h = coords
    if shape.body == "fourier":
        frozen = torch.as_tensor(shape.frozen, dtype=coords.dtype, device=coords.device)
        phase = frozen @ coords
        h = torch.cat((phase.sin(), phase.cos()), dim=1)
    n_layers = len(shape.sizes)
    for layer in range(n_layers):
        if layer == n_layers - 1 and hidden:
            break
        weight, bias = parameters[2 * layer], parameters[2 * layer + 1]
        last = layer == n_layers - 1
        # the factor of a sine goes into the smaller of weights and units, which spares a pass over the larger
        factor = 1.0 if shape.body != "siren" or last else float(shape.omega if layer == 0 else shape.hidden_omega)
        units_are_more = h.shape[2] >= weight.shape[1]
        if factor != 1 and units_are_more:
            weight, bias = weight * factor, bias * factor
        h = torch.baddbmm(bias.unsqueeze(2), weight.transpose(1, 2), h)
        if factor != 1 and not units_are_more:
            h = h * factor
        if not last:
            h = h.sin() if shape.body == "siren" else h.relu()
    return h


def flatten(parameters: Sequence[torch.Tensor]) -> np.ndarray:
    """Parameters as `initial` gives them -> float64 [G, P] in flat order."""
    flat = [p.detach().cpu().numpy().reshape(p.shape[0], -1) for p in parameters]
    return np.concatenate(flat, axis=1).astype(np.float64)


def unflatten(shape: MlpShape, flat: torch.Tensor) -> list[torch.Tensor]:
    """Inverse of `flatten` for a tensor [G, P]: views W1 [G, in, out], b1 [G, out], W2, …"""
    at, result = 0, []
    for i, o in shape.sizes:
        result += [flat[:, at : at + i * o].reshape(-1, i, o), flat[:, at + i * o : at + i * o + o]]
        at += i * o + o
    return result


def evaluate(shape: MlpShape, weights: np.ndarray, coords: np.ndarray, *, hidden: bool = False) -> np.ndarray:
    """`forward` in numpy and float64: weights [G, P] flat, coords [G, fin, N] -> [G, fout, N] ([G, width, N]).

    Takes whatever a hostile file holds: large weights give large or non-finite values, and no warning.
    """
    groups, at = weights.shape[0], 0
    h = np.asarray(coords, np.float64)
    with np.errstate(all="ignore"):
        if shape.body == "fourier":
            phase = shape.frozen @ h
            h = np.concatenate((np.sin(phase), np.cos(phase)), axis=1)
        n_layers = len(shape.sizes)
        for layer, (i, o) in enumerate(shape.sizes):
            if layer == n_layers - 1 and hidden:
                break
            weight = weights[:, at : at + i * o].reshape(groups, i, o).transpose(0, 2, 1)
            bias = weights[:, at + i * o : at + i * o + o, None]
            at += i * o + o
            last = layer == n_layers - 1
            if shape.body == "siren" and not last:
                factor = float(shape.omega if layer == 0 else shape.hidden_omega)
                weight, bias = weight * factor, bias * factor
            h = weight @ h
            h += bias
            if not last:
                h = np.sin(h, out=h) if shape.body == "siren" else np.maximum(h, 0, out=h)
    return h
