"""Sections speed and large: wall time and memory of whole processes, and times inside one process."""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from common import SLOW_EFFORT, Run, inrcodec_program, say, table, timed

from inrcodec.bench import load_picture, measure
from inrcodec.metrics import psnr
from inrcodec.peers import available_peers, ours, peer
from inrcodec.settings import EncodeSettings

PILLOW = "import sys; from PIL import Image; Image.open(sys.argv[1]).convert('RGB').save(sys.argv[2]{})"
PEER_OPTIONS = {
    "jpeg": ("jpg", ", quality=75, subsampling=0, optimize=True"),
    "webp": ("webp", ", quality=75, method=6"),
    "avif": ("avif", ", quality=60, subsampling='4:4:4', speed=6"),
}
IN_PROCESS_QUALITY = {"jpeg": 75.0, "webp": 75.0, "avif": 60.0, "jxl": 75.0}


def speed_section(run: Run) -> str:
    """The first picture (768×512 in Kodak): processes and calls, medians."""
    photo = run.work / "photo.png"
    picture = load_picture(run.pictures[0])
    _save(picture, photo)
    size = f"{picture.shape[1]}×{picture.shape[0]}"
    processes = table(("process", "wall s", "peak MiB"), _processes(run, photo))
    calls = table(("codec, quality", "encode s", "decode s", "bytes"), _calls(run, picture))
    return (
        f"{run.pictures[0].name}, {size}. Whole processes, from and to files, program start included; medians of "
        f"{run.repeats}. Peers are a Python process with Pillow.\n\n{processes}\n"
        f"Calls in one process, array to bytes and back, one call to warm up; medians of {run.repeats}, from "
        f"-e {SLOW_EFFORT} on one call.\n\n{calls}"
    )


def large_section(run: Run) -> str:
    """24 megapixels beside 6: time and memory should grow no faster than pixels."""
    program = inrcodec_program()
    rows: list[tuple[str, ...]] = []
    results = []
    whole = mosaic([load_picture(path) for path in run.pictures[:12]], 4000, 6000)
    for height, width in ((2000, 3000), (4000, 6000)):
        say(f"  {width}×{height}")
        source, coded, out = (run.work / name for name in ("large.png", "large.inr", "large-out.png"))
        picture = whole[:height, :width]
        _save(picture, source)
        encode, decode = (
            [timed([program, *what, "-f", *jobs]) for jobs in (("-j", "1"), ())]
            for what in (("encode", source, "-o", coded), ("decode", coded, "-o", out))
        )
        info = timed([program, "info", coded])
        db = psnr(decoded=load_picture(out), original=picture, peak=255)
        results.append((encode[0], decode[0]))
        rows.append(
            (
                f"{width}×{height}",
                *(f"{one['seconds']:.2f}" for one in encode),
                f"{encode[0]['peak_mib']:.0f}",
                *(f"{one['seconds']:.2f}" for one in decode),
                f"{decode[0]['peak_mib']:.0f}",
                f"{info['seconds']:.3f}",
                f"{8 * coded.stat().st_size / (height * width):.4f}",
                f"{db:.2f}",
            )
        )
    (encode_1, decode_1), (encode_4, decode_4) = results
    of_encode, of_decode = (
        (f"× {b['seconds'] / a['seconds']:.2f}", "", f"× {b['peak_mib'] / a['peak_mib']:.2f}")
        for a, b in ((encode_1, encode_4), (decode_1, decode_4))
    )
    rows.append(("4 × the pixels takes", *of_encode, *of_decode, "", "", ""))
    head = ("picture", "encode s, -j 1", "all cores", "MiB", "decode s, -j 1", "all cores", "MiB", "info s", "bpp",
            "PSNR dB")  # fmt: skip
    return (
        f"A mosaic of {min(12, len(run.pictures))} photos, alternately mirrored, and its upper left quarter; default "
        f"settings, one run each, whole processes, reading and writing PNG included; MiB: peak resident memory, with "
        f"-j 1.\n\n"
        f"{table(head, rows)}"
    )


def mosaic(pictures: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Pictures [h, w, 3] laid side by side at their own size, upright ones turned, mirrored in odd rows and columns
    so that the borders between repeats of one picture are smooth; cut to [height, width, 3]."""
    lying = [p if p.shape[1] >= p.shape[0] else np.rot90(p) for p in pictures]
    h, w = min(p.shape[0] for p in lying), min(p.shape[1] for p in lying)
    result = np.empty((height, width, 3), np.uint8)
    for row, top in enumerate(range(0, height, h)):
        for column, left in enumerate(range(0, width, w)):
            tile = lying[(row // 2 * 5 + column // 2) % len(lying)][:h, :w]
            tile = tile[:: -1 if row % 2 else 1, :: -1 if column % 2 else 1]
            result[top : top + h, left : left + w] = tile[: height - top, : width - left]
    return result


def _processes(run: Run, photo: Path) -> list[tuple[str, str, str]]:
    program, coded, out = inrcodec_program(), run.work / "photo.inr", run.work / "photo-out.png"
    commands: list[tuple[str, list[Any]]] = [
        ("inrcodec encode", [program, "encode", photo, "-o", coded, "-f"]),
        ("inrcodec encode --tune psnr", [program, "encode", photo, "-o", run.work / "p.inr", "-f", "--tune", "psnr"]),
        ("inrcodec decode", [program, "decode", coded, "-o", out, "-f"]),
        ("inrcodec decode --scale 2", [program, "decode", coded, "-o", out, "-f", "--scale", "2"]),
        ("inrcodec info", [program, "info", coded]),
    ]
    for name in available_peers():
        if name in PEER_OPTIONS:
            suffix, options = PEER_OPTIONS[name]
            file = run.work / f"photo.{suffix}"
            commands.append((f"Pillow {name} encode", [sys.executable, "-c", PILLOW.format(options), photo, file]))
            commands.append((f"Pillow {name} decode to PNG", [sys.executable, "-c", PILLOW.format(""), file, out]))
    commands.append(("python -c pass", [sys.executable, "-c", "pass"]))
    commands.append(("python -c 'import numpy'", [sys.executable, "-c", "import numpy"]))
    rows = []
    for label, command in commands:
        say(f"  {label}")
        timed(command)  # fills the file cache
        result = timed(command, repeats=run.repeats)
        rows.append((label, f"{result['seconds']:.3f}", f"{result['peak_mib']:.0f}"))
    return rows


def _calls(run: Run, picture: np.ndarray) -> list[tuple[str, str, str, str]]:
    usual = EncodeSettings.effort
    efforts = {e: run.repeats if e < SLOW_EFFORT else 1 for e in (usual, *run.efforts)}
    codecs = [(ours(tune, effort=e), 75.0, n) for e, n in efforts.items() for tune in ("perceptual", "psnr")]
    codecs += [(peer(name), IN_PROCESS_QUALITY[name], run.repeats) for name in available_peers()]
    rows = []
    for codec, quality, n in codecs:
        say(f"  {codec.label}, in process")
        if n > 1:
            measure(codec, picture, file="", setting=quality)
        points = [measure(codec, picture, file="", setting=quality) for _ in range(n)]
        encode, decode = (median(getattr(p, name) for p in points) for name in ("encode_s", "decode_s"))
        rows.append((f"{codec.label}, {quality:g}", f"{encode:.4f}", f"{decode:.4f}", f"{points[0].n_bytes:,}"))
    return rows


def _save(picture: np.ndarray, path: Path) -> None:
    from PIL import Image

    Image.fromarray(picture).save(path, compress_level=1)
