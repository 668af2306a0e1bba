"""What every region of a picture must be: a cut from the whole, to the last bit."""

from __future__ import annotations

import numpy as np

from inrcodec.reader import Reader


def assert_regions_are_cuts(file: Reader, scale: float) -> None:
    whole = file.decode(scale=scale)
    h, w = whole.shape[:2]
    for x, y, n in ((0, 0, 1), (w // 3 | 1, h // 2, 7), (w - 5, h - 4, 4)):
        np.testing.assert_array_equal(file.decode(region=(x, y, n, n), scale=scale), whole[y : y + n, x : x + n])
