"""What windows that follow a sound are worth: the codec as shipped against cells of one length, never cut.

    python benchmarks/windows.py SOUND... [--cell 2048] [--seconds 8]

Real files with --tune psnr; BD-rate in SNR over the range that both curves of a sound reach. Contexts and starting
tables are the same on both sides: those of cut cells.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import soundfile
from common import table

import inrcodec
from inrcodec.fields import cosine
from inrcodec.metrics import bd_rate, quality_range, snr
from inrcodec.signals import normalise

QUALITIES = (20.0, 40.0, 60.0, 80.0, 92.0)


@contextmanager
def one_length(cell: int) -> Iterator[None]:
    with patch.object(cosine, "split_levels", lambda *_: 0), patch.object(cosine, "SOUND_CELL", cell):
        yield


def curve(samples: np.ndarray, rate_hz: int) -> tuple[list[tuple[float, float]], np.ndarray]:
    """(bytes, SNR in dB) at every quality; seconds to encode and to decode, summed."""
    points, seconds = [], np.zeros(2)
    for quality in QUALITIES:
        start = time.perf_counter()
        data = inrcodec.encode(samples, sample_rate_hz=rate_hz, tune="psnr", quality=quality)
        coded = time.perf_counter()
        file = inrcodec.open(data)
        decoded = normalise(file.decode().reshape(samples.shape), file.header.signal).astype(np.float64)
        seconds += coded - start, time.perf_counter() - coded
        points.append((float(len(data)), snr(decoded=decoded, original=samples.astype(np.float64))))
    return points, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sounds", nargs="+", type=Path)
    parser.add_argument("--cell", type=int, default=2048, help="samples of the cells to compare with")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each sound, from its start")
    asked = parser.parse_args()
    rows, gains, spent, values = [], [], np.zeros((2, 2)), 0
    for path in asked.sounds:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        samples = samples[: round(asked.seconds * rate_hz)]
        ours, seconds = curve(samples, rate_hz)
        with one_length(asked.cell):
            others, theirs = curve(samples, rate_hz)
        gains.append(bd_rate(others, ours))
        low, high = quality_range(others, ours)
        spent += seconds, theirs
        values += len(QUALITIES) * samples.size / rate_hz
        rows.append((path.name, f"{gains[-1]:+.1f}", f"{low:.0f} to {high:.0f}"))
    print(table(("sound", "%", "dB"), rows))
    print(f"mean {np.mean(gains):+.1f} %, worst {max(gains):+.1f} %, best {min(gains):+.1f} %")
    for name, (encode, decode) in zip(("as shipped", f"cells of {asked.cell}"), spent / values, strict=True):
        print(f"{name}: {1000 * encode:.0f} ms to encode, {1000 * decode:.0f} ms to decode a second of one channel")


if __name__ == "__main__":
    main()
