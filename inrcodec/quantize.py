"""Turns weights in units of their steps into codes that are worth their bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .entropy import regions
from .entropy.alphabet import n_extra_bits, split
from .entropy.base import valid_codes
from .entropy.context import OwnContexts, TileModel, counts_of, networks_of, open_tile, tile_kind
from .entropy.dependent import HALF_STEP
from .entropy.diagonals import Diagonals
from .entropy.learned import N_LEARNED_CLASSES, OF_SHIFTS, Code, LearnedTile, Pass
from .entropy.tables import symbol_bits
from .parallel import MANY_CODES, in_processes
from .priors.networks import context_networks
from .priors.tables import starting_counts
from .stream import MAX_CODE, Part, TensorLayout, tiles
from .trellis import Prices, best_path

__all__ = ["BIT", "LARGEST_KNOT", "ROUNDS", "rate_optimal", "reconsidered", "to_codes"]

LARGEST = MAX_CODE & ~63  # float32 has no whole number between this and 2^30
LARGEST_KNOT = LARGEST // 4  # the coder holds what a prediction leaves of them, up to three times as much
# Squared local steps that one bit is worth: the slope −dD/dR along the step. At high rate it is ln 2 / 6 = .116, on
# photos it was measured at about .1 between .14 and 4 bpp (docs/design.md), so that one constant serves every file.
BIT = 0.1
ROUNDS = 2  # of the search for dependent codes
PRICED = 64  # magnitudes below have their price looked up; larger ones are simply rounded


def rate_optimal(
    scaled: np.ndarray,
    layout: TensorLayout,
    trade: float,
    *,
    quick: bool = False,
    rounds: int = ROUNDS,
    splits: np.ndarray | None = None,
) -> np.ndarray:
    """Scaled weights w/step [C, *frequencies, *cells] -> int32 codes.

    Of the two nearest magnitudes the one with the smaller (|w| − |code|)² + trade · bits, in units of squared steps.
    Weights are visited in the order of the entropy coder, so every price is that under the codes already chosen, in
    the contexts the decoder will see; only the adaptation of the tables is left out. One greedy pass. At high rate
    D ~ 2^(−2 bits) / 12 makes trade = ln 2 / 6 = .116 the slope of the rate–distortion curve (Sullivan & Wiegand
    1998 have the argument). Dependent codes go on from there: the best path under the contexts of the codes so far,
    so many rounds. quick: pictures' prices are those of plain sums of neighbours, not of learned contexts. splits:
    flags [2^levels − 1, cells], where cells are cut.
    """
    order = _Order(layout, trade, quick, rounds)
    tasks = [
        (order, part, scaled[part.index], None if splits is None else splits[:, part.index[-1]])
        for part in _parts(layout)
    ]
    return _joined(_chosen, tasks, layout)


def reconsidered(codes: np.ndarray, scaled: np.ndarray, layout: TensorLayout, trade: float) -> np.ndarray:
    """One more round of the search for dependent codes, from those chosen before. scaled: the same weights, or others
    that are near to them."""
    tasks = [(layout, trade, part, codes[part.index], scaled[part.index]) for part in _parts(layout)]
    return _joined(_reconsidered, tasks, layout)


def _parts(layout: TensorLayout) -> list[Part]:
    """All of each tile."""
    return [Part(0, tile, 0, layout.n_diagonals) for tile in tiles(layout.cells)]


def _joined(work: Callable[[Any], np.ndarray], tasks: Sequence[Any], layout: TensorLayout) -> np.ndarray:
    """The codes of all tiles, which work finds for one task each."""
    codes = np.empty(layout.shape, np.int32)
    found = in_processes(work, tasks, worth_a_start=codes.size >= MANY_CODES)
    for part, of_tile in zip(_parts(layout), found, strict=True):
        codes[part.index] = of_tile
    return codes


@dataclass(frozen=True)
class _Order:
    """What is asked of every tile: see rate_optimal."""

    layout: TensorLayout
    trade: float
    quick: bool
    rounds: int


def _chosen(task: tuple[_Order, Part, np.ndarray, np.ndarray | None]) -> np.ndarray:
    """Codes of a tile."""
    order, part, scaled, splits = task
    layout, trade = order.layout, order.trade
    chosen = scaled.astype(np.float32)  # holds weights ahead of the pass and codes behind it
    kind = tile_kind(layout)
    if order.quick and kind == "learned":
        kind = "cosine"
    price = trade * _bits(kind, layout.contexts)

    def choose(contexts: np.ndarray, weights: np.ndarray) -> np.ndarray:
        magnitude = np.abs(weights)
        upper = np.floor(magnitude + np.float32(0.5))
        near = np.flatnonzero((upper > 0) & (upper < PRICED))
        v = upper[near].astype(np.int32)
        excess = v - magnitude[near]  # in (−½, ½]: the error of v; that of v − 1 is 1 − excess
        row = contexts[near]
        upper[near] -= excess**2 + price[row, v] > (1 - excess) ** 2 + price[row, v - 1]
        return to_codes(np.copysign(upper, weights))

    modes = regions.modes_of(chosen.shape[3:])
    if modes is not None and kind == "learned":
        networks = networks_of(layout.contexts, context_networks)
        whole, total = regions.padded(chosen), 0
        for s in regions.ORDER:
            there = regions.exists(valid_codes(layout, part), chosen.shape, modes, s)
            v = np.ascontiguousarray(regions.view(whole, s)) * there
            model = _Magnitudes(v, there, networks.magnitudes, networks.signs, size=s)
            model.known = None if s == regions.MERGED else regions.brought(2 * total.astype(np.int32), modes, s)
            stops = Diagonals(v.shape[1:3]).stops(np.abs(v) >= 0.5, 0, model.n_diagonals)
            model.run(0, model.n_diagonals, stops, choose)
            total = total + regions.unview(v, s)
        m, n, r, q = chosen.shape[1:]
        codes = total[:, :m, :n, :r, :q].astype(np.int32)
        codes = 2 * np.clip(codes, -(2**20), 2**20)
        for _ in range(order.rounds):
            codes = _path(codes, scaled, layout, part, _prices(trade, layout))
        return codes
    model = _open(chosen, layout, part, kind, splits=splits)
    stops = np.full(layout.channels, layout.n_diagonals)
    if len(layout.frequencies) > 1:  # beyond them, all weights are rounded to 0
        stops = Diagonals(layout.frequencies).stops(np.abs(chosen) >= 0.5, 0, layout.n_diagonals)
    model.run(0, layout.n_diagonals, stops, choose)
    codes = chosen.astype(np.int32)
    if layout.dependent:
        prices = _prices(trade, layout)
        codes = 2 * np.clip(codes, -(2**20), 2**20)  # contexts see no further
        for _ in range(order.rounds):
            codes = _path(codes, scaled, layout, part, prices)
    return codes


def _reconsidered(task: tuple[TensorLayout, float, Part, np.ndarray, np.ndarray]) -> np.ndarray:
    layout, trade, part, codes, scaled = task
    return _path(codes, scaled, layout, part, _prices(trade, layout))


def _path(codes: np.ndarray, scaled: np.ndarray, layout: TensorLayout, part: Part, prices: Prices) -> np.ndarray:
    """The best path through a tile, in the contexts of the codes that it had."""
    weights = np.clip(scaled.astype(np.float32) / np.float32(HALF_STEP), -LARGEST, LARGEST)
    modes = regions.modes_of(codes.shape[3:])
    if modes is not None:
        wide, old, total = regions.padded(weights), regions.padded(codes), 0
        networks = networks_of(layout.contexts, context_networks)
        for s in regions.ORDER:
            there = regions.exists(valid_codes(layout, part), codes.shape, modes, s)
            known = None if s == regions.MERGED else regions.brought(total, modes, s)
            w, c = (np.ascontiguousarray(regions.view(x, s)) * there for x in (wide, old))
            total = total + regions.unview(best_path(w, c, there, networks, prices, s, known), s)
        m, n, r, q = codes.shape[1:]
        return np.ascontiguousarray(total[:, :m, :n, :r, :q])
    return best_path(weights, codes, valid_codes(layout, part), networks_of(layout.contexts, context_networks), prices)


def to_codes(values: np.ndarray, largest: int = LARGEST) -> np.ndarray:
    """Whole numbers -> int32 codes; absurdly fine steps saturate at what the coders can hold."""
    return np.clip(values, -largest, largest).astype(np.int32)


@lru_cache(16)
def _bits(kind: str, own: OwnContexts | None) -> np.ndarray:
    """Price of every magnitude below PRICED, with one bit of sign, under the starting tables: [contexts, PRICED]."""
    symbols, _ = split(np.arange(PRICED))
    bits = symbol_bits(counts_of(own, kind, starting_counts))[:, symbols]
    return (bits + n_extra_bits(symbols) + (np.arange(PRICED) > 0)).astype(np.float32)


class _Magnitudes(LearnedTile):
    """Its signs, which no magnitude's context sees, are taken as they are: no network is asked about them."""

    def signed(self, code: Code, halves: np.ndarray, negative: np.ndarray, now: Pass) -> np.ndarray:
        return np.where(negative, -halves, halves)


def _open(codes: np.ndarray, layout: TensorLayout, part: Part, kind: str, *, splits: np.ndarray | None) -> TileModel:
    """The model under which codes alone are chosen."""
    if kind != "learned":
        return open_tile(codes, layout, part, context_networks, kind=kind, splits=splits)
    networks = networks_of(layout.contexts, context_networks)
    return _Magnitudes(codes, valid_codes(layout, part), networks.magnitudes, networks.signs)


def _prices(trade: float, layout: TensorLayout) -> Prices:
    """Of dependent codes."""
    n, own = 2 * N_LEARNED_CLASSES, layout.contexts
    without_signs = _bits("learned", own)[:n] - (np.arange(PRICED) > 0)
    signs = symbol_bits(counts_of(own, "learned", starting_counts)[n:OF_SHIFTS])[:, :2]
    return Prices(trade, without_signs.astype(np.float32), signs.astype(np.float32))
