"""Signals to learn priors from: drawn faces (for CelebA), signed distances of shapes (SDF), crops of photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from experiment import Options
from PIL import Image

__all__ = ["crops", "faces", "photo_split", "shapes"]

STAND_INS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina", "camera", "brick")
TEST_SHARE = 4  # one photo in so many is kept for tests


def faces(n: int, size: int, seed: int) -> list[np.ndarray]:
    """float32 [size, size, 3] in [0, 1]: hair, skin, eyes and mouth as soft ellipses of random place and colour."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] * (2 / size) - 1 + 1 / size

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        """1 inside, 0 outside, over about a pixel."""
        distance = (np.hypot((x - cx) / rx, (y - cy) / ry) - 1) * min(rx, ry)
        return np.clip(0.5 - distance * size / 2, 0, 1)[..., None]

    made = []
    for _ in range(n):
        top, bottom = rng.uniform(0.1, 0.9, (2, 3))
        slope = ((y + 1) / 2)[..., None]
        picture = top * (1 - slope) + bottom * slope
        cx, cy = rng.uniform(-0.12, 0.12, 2)
        rx, ry = rng.uniform(0.42, 0.58), rng.uniform(0.55, 0.7)
        skin = np.array([0.9, 0.7, 0.55]) * rng.uniform(0.45, 1.05) + rng.uniform(-0.04, 0.04, 3)
        hair = rng.uniform(0.02, 0.6) * np.array([1.0, 0.8, 0.6]) * rng.uniform(0.8, 1.2, 3)
        parts = [
            (ellipse(cx, cy - 0.15, rx * rng.uniform(1.1, 1.35), ry * rng.uniform(1.1, 1.3)), hair),
            (ellipse(cx, cy + 0.08, rx, ry), skin),
        ]
        eye, eye_y = rng.uniform(0.18, 0.26), cy - rng.uniform(0.02, 0.14)
        iris = rng.uniform(0.05, 0.5, 3)
        for side in (-1, 1):
            parts.append((ellipse(cx + side * eye, eye_y, 0.11, 0.065), np.full(3, 0.93)))
            parts.append((ellipse(cx + side * eye, eye_y, 0.05, 0.06), iris))
        lips = np.array([rng.uniform(0.5, 0.9), rng.uniform(0.15, 0.4), rng.uniform(0.2, 0.4)])
        parts.append(
            (ellipse(cx, cy + rng.uniform(0.32, 0.42), rng.uniform(0.14, 0.24), rng.uniform(0.04, 0.09)), lips)
        )
        for inside, colour in parts:
            picture = picture * (1 - inside) + colour * inside
        made.append(np.clip(picture, 0, 1).astype(np.float32))
    return made


def shapes(n: int, size: int, seed: int) -> list[np.ndarray]:
    """float32 [size, size, 1] in [0, 1]: signed distance to a union of circles, boxes and triangles, clipped to ±½."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] * (2 / size) - 1 + 1 / size
    made = []
    for _ in range(n):
        distance = np.full((size, size), np.inf)
        for _ in range(rng.integers(1, 4)):
            cx, cy = rng.uniform(-0.55, 0.55, 2)
            a, b, angle = rng.uniform(0.15, 0.5), rng.uniform(0.15, 0.5), rng.uniform(0, np.pi)
            u = np.cos(angle) * (x - cx) + np.sin(angle) * (y - cy)
            v = np.cos(angle) * (y - cy) - np.sin(angle) * (x - cx)
            kind = rng.integers(3)
            if kind == 0:
                one = np.hypot(u, v) - a
            elif kind == 1:
                p, q = np.abs(u) - a, np.abs(v) - b
                one = np.hypot(np.maximum(p, 0), np.maximum(q, 0)) + np.minimum(np.maximum(p, q), 0)
            else:  # an equilateral triangle, as the largest distance to its three sides
                turns = np.arange(3) * 2 * np.pi / 3
                one = np.max([np.cos(t) * u + np.sin(t) * v - a / 2 for t in turns], axis=0)
            distance = np.minimum(distance, one)
        made.append((np.clip(distance, -0.5, 0.5) + 0.5)[..., None].astype(np.float32))
    return made


def photo_split(options: Options, short_side: int) -> tuple[list[np.ndarray], list[np.ndarray], str]:
    """Photos brought to this short side, float32 [H, W, 3] in [0, 1]: for training, for tests (by photo, not by crop),
    and what they are."""
    pictures = []
    folder = None if options.data is None else options.data / "photos"
    if folder is not None and folder.is_dir():
        for path in sorted(folder.glob("*.jpg")):
            with Image.open(path) as file:
                file.draft("RGB", (4 * short_side, 4 * short_side))
                pictures.append(file.convert("RGB"))
        name = f"{len(pictures)} photos of {folder.name}/"
    else:
        import skimage.data

        pictures = [Image.fromarray(getattr(skimage.data, s)()).convert("RGB") for s in STAND_INS]
        name = f"{len(pictures)} pictures that scikit-image ships"
    small = []
    for picture in pictures:
        factor = short_side / min(picture.size)
        size = tuple(max(short_side, round(n * factor)) for n in picture.size)
        small.append(np.asarray(picture.resize(size, Image.Resampling.LANCZOS), np.float32) / 255)
    return [p for i, p in enumerate(small) if i % TEST_SHARE], small[::TEST_SHARE], name


def crops(pictures: Sequence[np.ndarray], n: int, size: int, seed: int) -> list[np.ndarray]:
    """n crops [size, size, C], from the pictures in turn, at random places."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(n):
        picture = pictures[i % len(pictures)]
        top, left = (int(rng.integers(m - size + 1)) for m in picture.shape[:2])
        made.append(np.ascontiguousarray(picture[top : top + size, left : left + size]))
    return made
