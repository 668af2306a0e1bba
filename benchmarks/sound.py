"""Section sound: bitrate against SNR of real sound files, beside MP3, Vorbis and Opus through libsndfile."""

from __future__ import annotations

from collections.abc import Iterator
from math import gcd
from pathlib import Path

import numpy as np
from common import Run, say, table

import inrcodec
from inrcodec.metrics import snr
from inrcodec.signals import normalise

QUALITIES = (20.0, 35.0, 50.0, 65.0, 75.0, 85.0, 95.0)
KBIT_PER_S = (8.0, 16.0, 32.0, 64.0, 96.0)
LEVELS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)  # libsndfile's compression level: 0 is the best quality
OPUS_RATE_HZ = 48000


def sound_section(run: Run) -> str:
    """SNR and the real bitrate of one sound."""
    if run.sound is None:
        return "No sound was given (`make bench AUDIO=file.wav`).\n"
    import soundfile

    samples, rate_hz = soundfile.read(run.sound, dtype="float64", always_2d=True)
    seconds = len(samples) / rate_hz
    rows = []
    for label, n_bytes, decoded in (*_ours(run.sound, samples), *sound_peers(run.work, samples, rate_hz)):
        say(f"  {label}")
        rows.append((label, f"{8 * n_bytes / seconds / 1000:.1f}", f"{snr(decoded=decoded, original=samples):.2f}"))
    head = ("codec", "kbit/s", "SNR dB")
    return (
        f"{run.sound.name}: {seconds:.2f} s, {rate_hz} Hz, {samples.shape[1]} channel(s). kbit/s of the whole file, "
        "SNR of what it decodes to. MP3, Vorbis and Opus spend their bits for ears, not for SNR; they are aligned to "
        "the original by the delay of the largest correlation; Opus is resampled to 48 kHz and back.\n\n"
        f"{table(head, rows)}"
    )


def _ours(path: Path, samples: np.ndarray) -> Iterator[tuple[str, int, np.ndarray]]:
    for rate in KBIT_PER_S:
        yield _one(f"inrcodec --tune psnr --bitrate {rate:g}", path, samples, kbit_per_s=rate)
    for quality in QUALITIES:
        yield _one(f"inrcodec --tune psnr -q {quality:g}", path, samples, quality=quality)


def _one(label: str, path: Path, samples: np.ndarray, **settings: float) -> tuple[str, int, np.ndarray]:
    data = inrcodec.encode(path, tune="psnr", **settings)
    file = inrcodec.open(data)
    decoded = file.decode().reshape(samples.shape)
    return label, len(data), normalise(decoded, file.header.signal).astype(np.float64)


def sound_peers(work: Path, samples: np.ndarray, rate_hz: int) -> Iterator[tuple[str, int, np.ndarray]]:
    """(codec and level, bytes of its file, what that decodes to [N, C]) of a sound [N, C]."""
    import soundfile
    from scipy.signal import resample_poly

    up, down = OPUS_RATE_HZ // gcd(OPUS_RATE_HZ, rate_hz), rate_hz // gcd(OPUS_RATE_HZ, rate_hz)
    for name, kind, subtype in (("MP3", "MP3", "MPEG_LAYER_III"), ("Vorbis", "OGG", "VORBIS"), ("Opus", "OGG", "OPUS")):
        if subtype not in soundfile.available_subtypes(kind):
            continue
        resampled = name == "Opus" and rate_hz != OPUS_RATE_HZ
        source = resample_poly(samples, up, down, axis=0) if resampled else samples
        for level in LEVELS:
            path = work / f"peer.{kind.lower()}"
            try:
                soundfile.write(
                    path,
                    source,
                    OPUS_RATE_HZ if resampled else rate_hz,
                    format=kind,
                    subtype=subtype,
                    compression_level=level,
                )
                decoded, _ = soundfile.read(path, dtype="float64", always_2d=True)
            except (soundfile.SoundFileError, TypeError) as error:
                say(f"  {name} at level {level:g}: {error}")
                continue
            if resampled:
                decoded = resample_poly(decoded, down, up, axis=0)
            yield f"{name}, level {level:g}", path.stat().st_size, _aligned(decoded, samples)


def _aligned(decoded: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """decoded [M, C] moved by the whole number of samples that fits the original [N, C] best, cut or filled to N."""
    from scipy.signal import correlate, correlation_lags

    lags = correlation_lags(len(decoded), len(samples))
    delay = int(lags[np.argmax(correlate(decoded[:, 0], samples[:, 0], method="fft"))])
    moved = decoded[delay:] if delay >= 0 else np.concatenate([np.zeros((-delay, decoded.shape[1])), decoded])
    moved = moved[: len(samples)]
    return np.concatenate([moved, np.zeros((len(samples) - len(moved), samples.shape[1]))])
