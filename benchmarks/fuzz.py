"""Feeds the decoder damaged files whose checksums are right, and counts what comes of it.

    python benchmarks/fuzz.py --mutants 100000 --seed 1

Every mutant must decode, or raise FormatError, UnsupportedError or LimitError; and with the digest of the original
it may decode only to the original's numbers. Anything else is printed with the mutant's bytes, and fails the run.
"""

from __future__ import annotations

import argparse
import base64
import collections
import struct
import sys
import time
import traceback
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from inrcodec.formats.container import MAGIC, InrFile, pack

import inrcodec
from inrcodec import api
from inrcodec.decoder import Decoder, digest
from inrcodec.entropy import TABLE_SETS, make_coder
from inrcodec.errors import FormatError, LimitError, UnsupportedError
from inrcodec.fields.cosine import DETAIL
from inrcodec.fields.tuning import TUNINGS
from inrcodec.priors.context import context_network, starting_rows
from inrcodec.priors.context_file import FACTS, AnyPrior, ContextFile, pack_contexts, unpack_contexts
from inrcodec.priors.prior import Prior, biases
from inrcodec.reader import Reader
from inrcodec.stream import Header, Stream, plan

ALLOWED = (FormatError, UnsupportedError, LimitError)
NETWORK = TUNINGS["psnr"].synthesis
MAX_SAMPLES = 2**14  # what a mutant may ask for: a larger header is refused, so that a run stays short
SLOW_S = 2.0
NUMBERS = (0, 1, 2, 3, 15, 16, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63, 2**64 - 1)


def tiny_prior() -> Prior:
    """Of RGB pictures: half of a small network's weights."""
    rng = np.random.default_rng(3)
    n = Prior.count(fin=2, width=4, depth=1, fout=3, features=0)
    mask = biases(((2, 4), (4, 4), (4, 3))) | (rng.random(n) < 0.5)
    start = np.where(mask, rng.normal(0, 0.2, n), 0).astype(np.float32)
    return Prior("siren", 2, 4, 1, 3, 10, "image", (8, 8), start, mask, steps=3)


def other_contexts() -> ContextFile:
    """The released ones with hidden units and starting tables in another order."""
    rows = starting_rows()[::-1].astype(np.uint16)
    network = context_network()
    weights = (network.weights[0][::-1], *network.weights[1:])
    return unpack_contexts(pack_contexts(replace(network, weights=weights), rows, dict.fromkeys(FACTS, 1)))


PRIOR, CONTEXTS = tiny_prior(), other_contexts()


def prior_of(header: Header) -> AnyPrior:
    """What a file is opened with: those that name none leave it."""
    return CONTEXTS if header.field.body == "cosine" else PRIOR


def opened(data: bytes, *, partial: bool = False) -> Reader:
    return api.open(data, partial=partial, prior=prior_of(api.open(data, partial=partial).header))


def tiny_files(*, mlp: bool = True) -> dict[str, bytes]:
    """Name -> a small file of every kind, by both coders; where there are MLP fields, those too."""
    rng = np.random.default_rng(7)
    walk = np.cumsum(rng.normal(0, 6, (20, 24, 3)), 1)
    picture = (128 + np.clip(walk, -120, 120)).astype(np.uint8)
    opaque = np.concatenate([picture, np.full((20, 24, 1), 255, np.uint8)], 2)
    tone = (0.4 * np.sin(np.arange(300)[:, None] * np.array([0.13, 0.29]))).astype(np.float32)
    volume = np.cumsum(rng.normal(size=(6, 5, 7)), 1).astype(np.float64)
    clicks = 0.05 * np.sin(np.arange(600)[:, None] * np.array([0.1, 0.13]))
    clicks[[150, 151, 420]] = [[0.9, 0.8], [-0.7, -0.5], [0.8, 0.1]]
    files = {}
    for coder in ("zstd", "range"):
        files |= {
            f"picture-{coder}": inrcodec.encode(picture, entropy=coder, quality=40),
            f"cells-{coder}": inrcodec.encode(picture, entropy=coder, grid="6x5", quality=50),
            f"alpha16-{coder}": inrcodec.encode(opaque.astype(np.uint16) * 257, entropy=coder, quality=40),
            f"sound-{coder}": inrcodec.encode(tone, sample_rate_hz=8000, entropy=coder, grid="9", quality=60),
            f"splits-{coder}": inrcodec.encode(clicks, sample_rate_hz=8000, entropy=coder, grid="2", quality=60),
            f"volume-{coder}": inrcodec.encode(volume, entropy=coder, grid="2x2x2", quality=60),
        }
        wide = np.repeat(picture[:3], 6, axis=1)[:, :130]  # 130 cells of a pixel: three tiles, shared spline apart
        files[f"tiles-{coder}"] = inrcodec.encode(wide, entropy=coder, grid="130x1", quality=70)
        files[f"levels-{coder}"] = levels_file(picture, coder)
        files[f"deltas-{coder}"] = deltas_file(picture, coder)
    files["contexts-range"] = inrcodec.encode(picture, prior=CONTEXTS, entropy="range", quality=40)
    if mlp:
        for arch, body in (("ensemble", "siren"), ("multihead", "relu"), ("multihead", "fourier")):
            try:
                files[f"{arch}-{body}"] = inrcodec.encode(
                    picture, arch=arch, body=body, width=4, depth=1, iterations=5, grid="2", entropy="range"
                )
            except (ImportError, AttributeError, RuntimeError) as error:  # a family without its library
                print(f"{arch} {body}: left out ({error})", file=sys.stderr)
        files["sparse-heads"] = inrcodec.encode(
            picture, body="relu", connections=2, width=5, depth=1, iterations=5, grid="3x2", entropy="range"
        )
        for coder in ("zstd", "range"):
            files[f"{coder}-segments"] = inrcodec.encode(
                picture, partition="segments", width=3, depth=0, iterations=3, grid="2x2", entropy=coder
            )
            files[f"{coder}-prior"] = inrcodec.encode(picture, prior=PRIOR, grid="3x2", entropy=coder)
    return files


def levels_file(picture: np.ndarray, coder: str) -> bytes:
    """A picture in three progressive levels, which the encoder gives large ones only, and with networks,
    which it keeps where they help: both are asked for here."""
    read = InrFile.of_bytes(inrcodec.encode(picture, grid="3x2", quality=85, entropy=coder)).stream()
    decoder = Decoder(read.header, max_samples=MAX_SAMPLES)
    codes = decoder.codes(read.payloads)
    header = replace(
        read.header, levels=(3, 7), field=replace(read.header.field, synthesis=NETWORK, detail=DETAIL, dependent=True)
    )
    layouts = decoder.field.layouts
    payloads = make_coder(coder, TABLE_SETS[coder]).encode(codes, layouts, plan(layouts, header.levels))
    return pack(Stream(header, tuple(payloads), read.digest, {"icc": b"not a profile", "xmp": b"<x/>"}))


def deltas_file(picture: np.ndarray, coder: str) -> bytes:
    """A picture that changes its synthesis network, which the encoder lets large ones do only."""
    read = InrFile.of_bytes(inrcodec.encode(picture, grid="3x2", quality=30, entropy=coder)).stream()
    spline, heads = Decoder(read.header, max_samples=MAX_SAMPLES).codes(read.payloads)
    header = replace(read.header, field=replace(read.header.field, synthesis=NETWORK, deltas=True))
    layouts = Decoder(header, max_samples=MAX_SAMPLES).field.layouts
    rng = np.random.default_rng(9)
    deltas = np.where(rng.random(layouts[1].shape) < 0.03, rng.integers(-9, 10, layouts[1].shape), 0).astype(np.int32)
    codes = (spline, deltas, heads)
    payloads = make_coder(coder, TABLE_SETS[coder]).encode(codes, layouts, plan(layouts, header.levels))
    return pack(Stream(header, tuple(payloads), digest(codes)))


def chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """File -> [(type, payload)]."""
    at, chunks = len(MAGIC), []
    while at < len(data):
        length, kind = struct.unpack_from("<I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def file_of(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """Inverse of chunks_of, with right checksums."""
    parts = [MAGIC]
    for kind, payload in chunks:
        body = struct.pack("<I4s", len(payload), kind) + payload
        parts += [body, struct.pack("<I", zlib.crc32(body))]
    return b"".join(parts)


def mutants(data: bytes, rng: np.random.Generator, n: int) -> Iterator[bytes]:
    """n damaged copies of a file whose CRCs are right; mostly the index too, and for some the hash of the codes."""
    original = chunks_of(data)
    for _ in range(n):
        chunks = list(original)
        for _ in range(1 + int(rng.random() < 0.2)):
            _mutate(chunks, rng)
        if rng.random() < 0.9:  # an index that does not fit would be all that is found
            lengths = [len(p) for k, p in chunks if k == b"DATA"]
            chunks = [(k, struct.pack(f"<{len(lengths)}I", *lengths) if k == b"INDX" else p) for k, p in chunks]
        mutant = file_of(chunks)
        yield with_own_digest(mutant) if rng.random() < 0.5 else mutant


def with_own_digest(mutant: bytes) -> bytes:
    """The file with the hash of what its payloads decode to; as it was where they do not decode."""
    try:
        codes = codes_of(mutant)
    except ALLOWED:
        return mutant
    *others, (_, _) = chunks_of(mutant)
    return file_of([*others, (b"DONE", digest(codes))])


def codes_of(data: bytes) -> tuple[np.ndarray, ...]:
    stream = InrFile.of_bytes(data)
    decoder = Decoder(stream.header, max_samples=MAX_SAMPLES, prior=prior_of(stream.header))
    return decoder.codes([stream.payload(i) for i in range(stream.header.n_chunks)])


def _mutate(chunks: list[tuple[bytes, bytes]], rng: np.random.Generator) -> None:
    """One change, in place: of the header's numbers, of any payload's bytes, sometimes of the order of chunks."""
    what = rng.random()
    i = int(rng.integers(len(chunks)))
    if what < 0.1:
        j = int(rng.integers(len(chunks)))
        if what < 0.04:
            chunks[i], chunks[j] = chunks[j], chunks[i]
        elif what < 0.07:
            chunks.insert(i, chunks[j])
        elif len(chunks) > 1:
            del chunks[i]
        return
    kind, payload = chunks[i]
    if what < 0.45 and chunks[0][0] == b"HEAD":
        chunks[0] = b"HEAD", _mutate_header(chunks[0][1], rng)
        return
    bytes_ = bytearray(payload)
    how = int(rng.integers(5))
    at = int(rng.integers(len(bytes_) + 1))
    if how == 0 and bytes_:
        bytes_[at % len(bytes_)] ^= 1 << int(rng.integers(8))
    elif how == 1 and bytes_:
        bytes_[at % len(bytes_)] = int(rng.choice([0, 1, 0x7F, 0x80, 0xC0, 0xC7, 0xDD, 0xFE, 0xFF, rng.integers(256)]))
    elif how == 2:
        del bytes_[at : at + int(rng.integers(1, 9))]
    elif how == 3:
        bytes_[at:at] = rng.bytes(int(rng.integers(1, 9)))
    else:
        bytes_[at:] = rng.bytes(len(bytes_) - at)
    chunks[i] = kind, bytes(bytes_)


def _mutate_header(payload: bytes, rng: np.random.Generator) -> bytes:
    """One number of the header replaced, in canonical form."""
    import msgpack

    try:
        values = msgpack.unpackb(payload[2:])
        node = values
        while True:
            j = int(rng.integers(len(node)))
            if not isinstance(node[j], list) or not node[j] or rng.random() < 0.05:
                break
            node = node[j]
        how = rng.random()
        old = node[j] if isinstance(node[j], int) else 1
        if how < 0.4:
            node[j] = max(0, old + int(rng.integers(-3, 4)))
        elif how < 0.8:
            node[j] = int(NUMBERS[int(rng.integers(len(NUMBERS)))])
        elif how < 0.87:
            del node[j]
        elif how < 0.94:
            node.insert(j, old)
        else:
            node[j] = [[], {}, "", b"", None, True, -1, 1.5, "a", [1], [[]]][int(rng.integers(11))]
        return payload[:2] + bytes(msgpack.packb(values))
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException):
        return payload  # an earlier change left nothing to walk through


def outcome(mutant: bytes, original: bytes, codes: bytes) -> str:
    """What opening, verifying and decoding gives. codes: of the original, as bytes. Raises what is not allowed."""
    try:
        file = opened(mutant)
        file.info()
        file.verify(max_samples=MAX_SAMPLES)
        file.decode(max_samples=MAX_SAMPLES)
        file.metadata()
    except ALLOWED as error:
        assert str(error) and "\n" not in str(error), repr(error)
        return type(error).__name__
    if InrFile.of_bytes(mutant).digest() == InrFile.of_bytes(original).digest():
        assert as_bytes(codes_of(mutant)) == codes, "other codes than were encoded, under the digest of the original"
        return "decoded to the same codes"
    return "decoded, with its own digest"


def outcome_of_variants(mutant: bytes, rng: np.random.Generator) -> None:
    """Decode other sizes, a region, scattered points, and a cut file in part. Raises what is not allowed."""
    try:
        file = opened(mutant)
        shape = file.header.signal.shape
        if file.header.signal.n_values > MAX_SAMPLES:
            return
        file.decode(scale=float(rng.choice([0.1, 0.37, 0.5, 1.7])), max_samples=MAX_SAMPLES)
        halves = [v for n in shape for v in (n // 2, n - n // 2)]
        if len(shape) != 2:
            file.decode(region=tuple(halves), max_samples=MAX_SAMPLES)
        file.sample(rng.uniform(-3, 30, (2, len(shape))))
    except ALLOWED:
        pass
    try:
        cut = mutant[: int(rng.integers(len(mutant)))]
        opened(cut, partial=True).decode(max_samples=MAX_SAMPLES)
    except ALLOWED:
        pass


def as_bytes(codes: tuple[np.ndarray, ...]) -> bytes:
    return b"".join(c.tobytes() for c in codes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="files whose name holds this")
    options = parser.parse_args()
    files = {k: v for k, v in tiny_files().items() if options.only in k}
    print(f"{len(files)} files: " + ", ".join(f"{k} {len(v)}" for k, v in files.items()), flush=True)
    warnings.simplefilter("error")
    counts: collections.Counter[str] = collections.Counter()
    bad, slowest, started = 0, 0.0, time.monotonic()
    for i, (name, data) in enumerate(files.items()):
        codes, rng = as_bytes(codes_of(data)), np.random.default_rng([options.seed, i])
        share = options.mutants // len(files) + (i < options.mutants % len(files))
        of_file: collections.Counter[str] = collections.Counter()
        for mutant in mutants(data, rng, share):
            begun = time.monotonic()
            try:
                of_file[outcome(mutant, data, codes)] += 1
                outcome_of_variants(mutant, rng)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                bad += 1
                of_file[f"BAD {type(error).__name__}"] += 1
                if bad <= 20:
                    traceback.print_exc(limit=-6)
                    print(f"{name}: {base64.b64encode(mutant).decode()}", flush=True)
            took = time.monotonic() - begun
            slowest = max(slowest, took)
            if took > SLOW_S:
                bad += 1
                print(f"{name}: {took:.1f} s for {base64.b64encode(mutant).decode()}", flush=True)
        counts += of_file
        print(f"{time.monotonic() - started:6.0f} s  {name}: {dict(of_file)}", flush=True)
    total = sum(counts.values())
    print(f"{total:,} mutants: {dict(counts)}; {bad} bad; slowest {slowest:.2f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
