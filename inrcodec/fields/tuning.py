"""What --tune chooses for the cosine field; measured in docs/compression.md."""

from __future__ import annotations

from dataclasses import dataclass

from ..stream import EQUAL

__all__ = ["TUNINGS", "Tuning"]


@dataclass(frozen=True)
class Tuning:
    """One entry of TUNINGS."""

    slope: int  # γ in 1/16: steps grow with frequency
    masking: bool
    trade: float  # squared steps that one bit is worth, see quantize.rate_optimal
    trade_corrected: float  # the same under a synthesis network, which makes more of small codes than of zeros
    shrink: tuple[int, int]  # 1/64 steps, see Quantiser
    first_step: float  # of the step at frequency 0, relative to one step for all at the same quality
    synthesis: int  # number of the network
    dependent: bool = True  # quantisation, above QUICK_EFFORT
    second: int = EQUAL  # steps of the second colour, where it is orange to blue: see Quantiser
    heed: bool = True  # dependent codes are chosen to go with what the network adds to theirs


TUNINGS = {
    "psnr": Tuning(
        slope=0,
        masking=False,
        trade=0.115,
        trade_corrected=0.085,
        shrink=(3, 2),
        first_step=1.0,
        synthesis=14,
    ),
    "perceptual": Tuning(
        slope=112,
        masking=True,
        trade=0.11,
        trade_corrected=0.07,
        shrink=(0, 0),
        first_step=0.45,
        synthesis=15,
        second=24,
    ),
}
