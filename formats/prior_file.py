"""Turns a Prior into the bytes of a prior file (.inp) and back. FORMAT.md §13 is the specification.

89 'I' 'N' 'P' 0D 0A 1A 0A · HEAD · WGHT · [RATE] · DONE          chunks as in .inr files
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import zstandard
from inrcodec.formats.container import FRAME_BYTES, chunk
from inrcodec.formats.header import BODIES, KINDS
from inrcodec.formats.strict import float_bits, float_of, integer, named, pack_values, unpack_values

from inrcodec.errors import FormatError
from inrcodec.frames import decompress
from inrcodec.priors.prior import MAX_LEARNED, MAX_RATES, MAX_ROUNDS, METHODS, Prior

__all__ = ["ID_BYTES", "MAGIC", "MAX_FILE_BYTES", "id_bytes", "pack_prior", "unpack_prior"]

MAGIC = b"\x89INP\r\n\x1a\n"
VERSION = (1, 0)
LEVEL = 19
ID_BYTES = 8
MAX_HEADER_BYTES = 2**12
MAX_FILE_BYTES = 2**27
MAX_FACTS, MAX_TEXT = 32, 32
METHOD_IDS = {"maml": 1, "maml-random": 2, "dense-narrow": 3, "maml-one-shot": 4, "maml-imp": 5, "scratch": 6}
assert set(METHOD_IDS) == set(METHODS)


def pack_prior(prior: Prior) -> bytes:
    raw = np.packbits(prior.mask, bitorder="little").tobytes() + prior.start[prior.mask].astype("<f4").tobytes()
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False, write_content_size=True)
    chunks = {b"HEAD": _pack_head(prior), b"WGHT": compressor.compress(raw)}
    if prior.rates is not None:
        chunks[b"RATE"] = compressor.compress(prior.rates[:, prior.mask].astype("<f4").tobytes())
    chunks[b"DONE"] = id_bytes(prior.id)
    return MAGIC + b"".join(chunk(kind, payload) for kind, payload in chunks.items())


def unpack_prior(data: bytes) -> Prior:
    """Raises FormatError for anything that is no whole prior file, UnsupportedError for a newer one."""
    if not data.startswith(MAGIC):
        if MAGIC.startswith(data):
            raise FormatError(f"prior file: truncated, {len(data)} bytes")
        raise FormatError("not a prior file (the first bytes are not its magic)")
    chunks = _chunks(data)
    weights, done = chunks[b"WGHT"], chunks[b"DONE"]
    fields = _unpack_head(chunks[b"HEAD"])
    kept = fields.pop("kept")
    try:  # the sizes, before anything is made of them
        sizes = {k: fields[k] for k in ("fin", "width", "depth", "fout", "features")}
        n = Prior.count(**sizes)
        if kept > n:
            raise FormatError(f"prior file: {kept:,} weights kept of {n:,}")
        n_mask = -(-n // 8)
        raw = decompress(weights, limit=n_mask + 4 * kept)
        if len(raw) != n_mask + 4 * kept:
            raise FormatError(f"prior file: {len(raw):,} bytes of weights, wanted {n_mask + 4 * kept:,}")
        bits = np.unpackbits(np.frombuffer(raw, np.uint8, n_mask), bitorder="little").astype(bool)
        mask, beyond = bits[:n], bits[n:]
        if int(mask.sum()) != kept or beyond.any():
            raise FormatError("prior file: mask and header differ in the number of weights kept")
        start = np.zeros(n, np.float32)
        start[mask] = np.frombuffer(raw, "<f4", kept, n_mask)
        rates = _unpack_rates(chunks[b"RATE"], mask) if b"RATE" in chunks else None
        prior = Prior(start=start, mask=mask, rates=rates, **fields)
    except ValueError as error:
        raise FormatError(f"prior file: {error}") from None
    if done != id_bytes(prior.id):
        raise FormatError("prior file: weights do not match their hash")
    return prior


def _pack_head(p: Prior) -> bytes:
    values = [
        [BODIES[p.body], p.fin, p.width, p.depth, p.fout, p.omega, p.features, p.seed],
        [KINDS[p.kind], list(p.patch)],
        [METHOD_IDS[p.method], int(p.relative), list(p.schedule), p.steps, float_bits(p.rate)],
        p.kept,
        [[name, value] for name, value in p.facts],
    ]
    return pack_values(VERSION, values)


def _unpack_head(payload: bytes) -> dict[str, Any]:
    """Arguments of Prior but start and mask; and kept."""
    return unpack_values(payload, VERSION, _head, name="prior file", max_array=MAX_ROUNDS, max_text=MAX_TEXT)


def _head(values: Any) -> dict[str, Any]:
    network, (kind, patch), (method, relative, schedule, steps, rate), kept, facts = values
    body, fin, width, depth, fout, omega, features, seed = network
    if any(type(v) is not list for v in (network, patch, schedule, facts)) or len(facts) > MAX_FACTS:
        raise FormatError("malformed header")
    body = named(body, BODIES, "body")
    if body == "cosine":
        raise FormatError("a cosine body has no networks")
    fourier = body == "fourier"
    for fact in facts:
        name, value = fact
        if type(fact) is not list or type(name) is not str or not name.isprintable():
            raise FormatError("malformed header")
        integer(value, 0, 2**63 - 1, "fact")
    return {
        "body": body,
        "fin": integer(fin, 1, 3, "axes"),
        "width": integer(width, 1, 4096, "width"),
        "depth": integer(depth, 0, 16, "depth"),
        "fout": integer(fout, 1, 1024, "channels"),
        "omega": integer(omega, 0, 2**20, "omega"),
        "features": integer(features, int(fourier), 4096 if fourier else 0, "features"),
        "seed": integer(seed, 0, 2**32 - 1, "seed"),
        "kind": named(kind, KINDS, "signal kind"),
        "patch": tuple(integer(n, 1, 2**31 - 1, "patch") for n in patch),
        "method": named(method, METHOD_IDS, "method"),
        "relative": bool(integer(relative, 0, 1, "relative")),
        "schedule": tuple(integer(n, 1, 2**31, "weights left") for n in schedule),
        "steps": integer(steps, 1, 10**7, "steps"),
        "rate": float_of(rate),
        "kept": integer(kept, 1, 2**31, "kept"),
        "facts": tuple((name, value) for name, value in facts),
    }


def _unpack_rates(payload: bytes, mask: np.ndarray) -> np.ndarray:
    """[K, P], 0 at pruned places."""
    kept = int(mask.sum())
    raw = decompress(payload, limit=4 * min(kept * MAX_LEARNED, MAX_RATES))
    if not raw or len(raw) % (4 * kept):
        raise FormatError(f"prior file: {len(raw):,} bytes of rates, wanted 1 to {MAX_LEARNED} times {4 * kept:,}")
    n_steps = len(raw) // (4 * kept)
    if n_steps * len(mask) > MAX_RATES:
        raise FormatError(f"prior file: {n_steps} rates for each of {len(mask):,} weights, limit {MAX_RATES:,}")
    rates = np.zeros((n_steps, len(mask)), np.float32)
    rates[:, mask] = np.frombuffer(raw, "<f4").reshape(-1, kept)
    return rates


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """Payloads of the chunks, their frames and CRCs checked; RATE may be missing."""
    at, payloads = len(MAGIC), dict[bytes, bytes]()
    limits = {b"HEAD": MAX_HEADER_BYTES, b"WGHT": MAX_FILE_BYTES, b"RATE": MAX_FILE_BYTES, b"DONE": ID_BYTES}
    for wanted, limit in limits.items():
        if at + FRAME_BYTES > len(data):
            raise FormatError(f"prior file: truncated, {len(data)} bytes")
        length, kind = struct.unpack_from("<I4s", data, at)
        if wanted == b"RATE" and kind == b"DONE":
            continue
        if kind != wanted:
            raise FormatError(f"prior file: chunk {kind!r} at byte {at}, wanted {wanted.decode()}")
        if length > limit:
            raise FormatError(f"prior file: chunk at byte {at} of {length:,} bytes, limit {limit:,}")
        end = at + FRAME_BYTES + length
        if end > len(data):
            raise FormatError(f"prior file: truncated in the chunk at byte {at}")
        if zlib.crc32(memoryview(data)[at : end - 4]) != struct.unpack_from("<I", data, end - 4)[0]:
            raise FormatError(f"prior file: chunk at byte {at}: CRC does not match, the file is damaged")
        payloads[kind] = data[at + 8 : end - 4]
        at = end
    if at != len(data):
        raise FormatError(f"prior file: {len(data) - at} bytes after the end chunk")
    return payloads


def id_bytes(prior_id: int) -> bytes:
    return prior_id.to_bytes(ID_BYTES, "big")
