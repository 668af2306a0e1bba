"""Codes and pixels are the same on every processor, thread count and library; floating point is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import inrcodec
from inrcodec.decoder import Decoder, digest
from inrcodec.entropy import CODERS
from inrcodec.fields import cosine

SAMPLES = Path(__file__).parent.parent / "samples"

MATRIX = [
    {},
    {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Prescott"},
    {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Sandybridge"},
    {"OPENBLAS_CORETYPE": "Haswell"},
    {"OPENBLAS_CORETYPE": "Haswell", "OPENBLAS_NUM_THREADS": "2"},
    {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F"},
    {"NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512_SKX"},
]


def everywhere(program: str, *arguments: str) -> list[Any]:
    """What a program prints as JSON under every setting of the matrix."""
    results = []
    for extra in MATRIX:
        env = {**os.environ, "OMP_NUM_THREADS": "1", **extra}
        command = [sys.executable, "-W", "ignore", "-c", program, *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
        results.append(json.loads(done.stdout))
    return results


CODES = """
import hashlib, json, sys
import inrcodec
from inrcodec.decoder import Decoder
from inrcodec.formats.container import InrFile
digests = []
for path in sys.argv[1:]:
    read = InrFile(open(path, "rb")).stream()
    decoder = Decoder(read.header, max_samples=2**24)
    codes = decoder.codes(read.payloads)
    from inrcodec.entropy import make_coder
    chunks = decoder._chunks
    again = make_coder(read.header.coder, read.header.table_set).encode(codes, decoder.field.layouts, chunks)
    pixels = [inrcodec.open(path).decode(scale=scale).tobytes() for scale in (1, 2)]
    digests.append([hashlib.sha256(b"".join(c.astype("<i4").tobytes() for c in codes)).hexdigest(),
                    hashlib.sha256(b"".join(again)).hexdigest() if read.header.coder == "range" else "",
                    hashlib.sha256(b"".join(pixels)).hexdigest()])
print(json.dumps(digests))
"""


def test_codes_and_pixels_are_the_same_on_every_processor_and_thread_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pixels at scales 1 and 2: their sums may differ in the last bit, which rounding to 8 bits takes away; files with
    a changed last layer of the synthesis network too."""
    paths = []
    for coder in CODERS:
        paths.append(tmp_path / f"{coder}.inr")
        paths[-1].write_bytes(inrcodec.encode(SAMPLES / "tiny.png", entropy=coder))
    paths.append(tmp_path / "deltas.inr")
    monkeypatch.setattr(cosine, "MIN_DELTA_SAMPLES", 0)
    with Image.open(SAMPLES / "coffee.png") as picture:
        paths[-1].write_bytes(inrcodec.encode(picture.crop((200, 130, 344, 226)), quality=85))
    results = everywhere(CODES, *map(str, paths))
    assert all(r == results[0] for r in results)
    for path, (sha, again, _) in zip(paths, results[0], strict=True):
        stream = inrcodec.formats.container.InrFile.of_bytes(path.read_bytes()).stream()
        assert sha.startswith(stream.digest.hex())
        codes = Decoder(stream.header, max_samples=2**24).codes(stream.payloads)
        assert digest(codes) == stream.digest
        assert stream.header.field.deltas == (path.stem == "deltas")
        assert not stream.header.field.deltas or codes[1].any()
        if again:  # encoding the codes again gives the very bytes of the file
            import hashlib

            assert hashlib.sha256(b"".join(p for p in stream.payloads if p is not None)).hexdigest() == again


# the context and sign networks' classes, the synthesis network's answers, and the context network in floating point
NETWORKS = """
import hashlib, json
import numpy as np
from inrcodec.entropy.learned import N_FEATURES
from inrcodec.fields.synthesis import convolve, facts
from inrcodec.entropy.signs import N_SIGN_FEATURES
from inrcodec.priors.context import context_network
from inrcodec.priors.signs import sign_network
from inrcodec.priors.synthesis import SHA256, network
net = context_network()
rng = np.random.default_rng(0)
features = rng.integers(0, 97, (N_FEATURES, 40, 300)).astype(np.float32)
u, v = rng.integers(0, 16, (2, 40))
classes = [net.classes(features, u, v, c, half) for c in range(3) for half in range(2)]
signs = sign_network()
known = rng.integers(-4, 5, (4000, N_SIGN_FEATURES)).astype(np.int8)
place = rng.integers(0, 1536, 4000)
classes += signs.classes(known, place, rng.integers(1, 5, 4000))
picture = rng.integers(-700, 700, (3, 64, 96)).astype(np.float32)
residuals = [convolve(network(number), facts(0.05, 112)[1:], picture) for number in SHA256]
inexact = features.reshape(N_FEATURES, -1) / np.float32(7)
for layer in net.weights:
    inexact = np.maximum((layer / np.float32(3)) @ inexact, 0)
print(json.dumps([hashlib.sha256(b"".join(x.tobytes() for x in some)).hexdigest()
                  for some in (classes, residuals, [inexact])]))
"""


def test_networks_of_whole_numbers_are_the_same_everywhere_where_floating_point_is_not() -> None:
    classes, residuals, inexact = zip(*everywhere(NETWORKS), strict=True)
    assert len(set(classes)) == 1
    assert len(set(residuals)) == 1
    assert len(set(inexact)) > 1, "the settings change nothing: they prove nothing"
