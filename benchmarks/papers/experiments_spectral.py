"""MH-ReLU's spectral bias: noise of rising frequency, by networks of few and of many heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from experiment import Check, Experiment, Options, Outcome, markdown
from experiments_multihead import CONVENTION, SIDES
from multihead_recipe import GENERALISATION, SPECTRAL, Heads, fit_kept, match, perlin

__all__ = ["EXPERIMENTS"]

OCTAVES = (1, 2, 4, 8, 16, 32)
SPECTRAL_OTHERS = {
    1: (49.4, 41.5, 35.9, 20.2, 16.0, 15.8), 2: (50.7, 49.5, 41.5, 29.7, 16.9, 15.9),
    4: (49.2, 46.7, 46.0, 32.5, 21.9, 16.0), 8: (49.0, 47.9, 44.9, 39.7, 30.4, 19.8),
    16: (56.5, 50.5, 52.5, 44.9, 49.0, 36.1), 32: (53.7, 55.7, 57.5, 55.2, 72.8, 88.7),
}  # fmt: skip


@dataclass(frozen=True)
class Spectral:
    """Noise of side² pixels of some octaves, 1 and 32 among them, by networks of some heads per side, 1 and 16 among
    them, which hold as many parameters as base."""

    side: int = 64
    base: Heads = SPECTRAL
    octaves: tuple[int, ...] = OCTAVES
    heads: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    epochs: int = 500


def spectral(options: Options, sizes: Spectral) -> Outcome:
    """Row 11."""
    epochs, octaves = sizes.epochs, sizes.octaves
    found: dict[int, dict[int, float]] = {}
    rows = []
    for side in sizes.heads:
        net = match(side, sizes.base)
        runs = [
            fit_kept(options, net, perlin(sizes.side, o, options.seed), None, epochs=epochs, seed=options.seed)
            for o in octaves
        ]
        found[side] = {o: f.best_db for o, f in zip(octaves, runs, strict=True)}
        others = dict(zip(OCTAVES, SPECTRAL_OTHERS.get(side, ()), strict=False)) if sizes.base == SPECTRAL else {}
        cells = [f"{found[side][o]:.1f}" + (f" ({others[o]:.1f})" if o in others else "") for o in octaves]
        seconds = np.mean([f.seconds for f in runs])
        rows.append((f"{side}²", net.width, net.connections, *cells, f"{seconds:.1f}"))
        options.say(f"  {side}² heads: {', '.join(cells)}")
    few, many = found[1], found[16]
    falls, gain = few[1] - few[32], many[32] - few[32]
    checks = (
        Check("one head: octave 1 above octave 32 by more than 25 dB", f"{falls:.1f} dB", falls > 25),
        Check("octave 32: 16² heads above one head by more than 15 dB", f"{gain:.1f} dB", gain > 15),
    )
    theirs = "In brackets: the independent re-implementation on noise of its own, 500 steps. "
    if sizes.base != SPECTRAL:
        theirs = ""
    head = ("heads", "n", "α", *(f"octave {o}" for o in octaves), "s a picture")
    body = (
        CONVENTION
        + f"Perlin noise of {sizes.side} × {sizes.side} pixels, a lattice of so many cells (octave) per axis; networks "
        f"of at most {sizes.base.n_parameters:,} parameters, {epochs} steps, best PSNR on the picture trained on "
        f"(every tenth step looked at). {theirs}The numbers of the published plot (256², 2,295,296 parameters, 2000 "
        f"epochs) are not known; one head there costs 900 GFLOP a step.\n\n"
        + markdown(head, rows)
        + "\nThe claim: with few heads PSNR falls steeply with frequency, with many it stays high; the conditions "
        "below say whether it holds. But a head then has few pixels and many weights "
        f"({sizes.base.n_parameters:,} parameters for {sizes.side**2:,} pixels), so this shows memory, not a bias that "
        f"was overcome: with {sizes.side}² heads every head has one pixel.\n"
    )
    ours = f"octave 1 to 32: one head {few[1]:.1f} to {few[32]:.1f}, 16² heads {many[1]:.1f} to {many[32]:.1f} dB"
    return Outcome(ours, body, checks)


EXPERIMENTS = (
    Experiment(
        (11,), "mh-spectral", "MH-ReLU: spectral bias on Perlin noise",
        "falls with the octave for few heads, not for many (a plot)", spectral,
        {"quick": Spectral(octaves=(1, 8, 32), heads=(1, 4, 16)), "full": Spectral(),
         "paper": Spectral(256, GENERALISATION, (1, 2, 4, 8, 16, 32, 64, 128), SIDES, 2000)},
        cost="days on two cores for each of the 8 octaves (one head: 900 GFLOP a step)",
    ),
)  # fmt: skip
