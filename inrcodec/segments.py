"""Turns pictures into label maps: int32 [H, W], region k of n holding k, in order of first appearance.

Felzenszwalb and Huttenlocher's graph segmentation follows the edges of objects; its components then merge, the
smallest into its smallest neighbour, until n remain (the Partition paper's rule, arXiv 2310.14184).
"""

from __future__ import annotations

import heapq

import numpy as np

from .stream import MAX_SEGMENTS

__all__ = ["canonical", "components", "from_map", "merge_to", "segment"]

MAX_PIXELS = 2**20  # larger pictures are segmented at every k-th pixel
SCALE, SIGMA = 500.0, 0.8  # of the graph segmentation: how unlike regions must be, smoothing beforehand
SMALLEST = 20  # regions found are not smaller than this part of an equal share
SMOOTHING = 2  # radius in pixels of the majority filter that rounds off borders: ragged ones cost bytes
MAX_SMOOTHED = 256  # segments: the filter's cost grows with them


def segment(samples: np.ndarray, n: int) -> np.ndarray:
    """Samples [H, W, C] in [0, 1] -> int32 labels [H, W] of exactly n regions, each connected (8 neighbours).

    Deterministic. Raises ValueError for n out of range.
    """
    height, width = samples.shape[:2]
    if not 1 <= n <= min(height * width, MAX_SEGMENTS):
        raise ValueError(f"{n} segments of {height} by {width} pixels, wanted 1 to {MAX_SEGMENTS:,}, a pixel each")
    if n == 1:
        return np.zeros((height, width), np.int32)
    stride = 1
    while (height // stride) * (width // stride) > MAX_PIXELS:
        stride += 1
    small = samples[::stride, ::stride]
    if small.shape[0] * small.shape[1] < n * SMALLEST:
        stride, small = 1, samples
    labels = merge_to(_found(small, n), n)
    if n <= MAX_SMOOTHED:
        smooth = components(_majority(labels))
        if smooth.max() + 1 >= n:  # else a thin region has vanished altogether
            labels = merge_to(smooth, n)
    if stride > 1:
        labels = np.repeat(np.repeat(labels, stride, 0), stride, 1)[:height, :width]
    return canonical(labels)


def from_map(pixels: np.ndarray) -> np.ndarray:
    """A map of the user's, numbers [H, W] or colours [H, W, C], every distinct one a region -> canonical labels.

    Raises ValueError for more than MAX_SEGMENTS, or another number of axes.
    """
    labels = np.asarray(pixels)
    if labels.ndim == 3 and labels.shape[2]:
        key = np.zeros(labels.shape[0] * labels.shape[1], np.int64)
        for channel in np.moveaxis(labels, 2, 0):  # faster than sorting whole colours
            own = np.unique(channel, return_inverse=True)[1].ravel()
            key = np.unique(key * (int(own.max(initial=0)) + 1) + own, return_inverse=True)[1]
        labels = key.reshape(labels.shape[:2])
    if labels.ndim != 2 or not labels.size:
        raise ValueError(f"--segments: map of shape {list(np.shape(pixels))}, wanted [H, W] or [H, W, C]")
    labels = canonical(labels)
    if (n := int(labels.max()) + 1) > MAX_SEGMENTS:
        raise ValueError(f"--segments: {n:,} distinct colours, limit {MAX_SEGMENTS:,}")
    return labels


def canonical(labels: np.ndarray) -> np.ndarray:
    """The same regions numbered 0, 1, … by their first sample, row by row: int32 [H, W]."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[inverse.reshape(np.shape(labels))]


def components(labels: np.ndarray) -> np.ndarray:
    """Every connected piece (8 neighbours) a region of its own."""
    from skimage.measure import label

    return np.asarray(label(labels, background=-1, connectivity=2), np.int32) - 1


def merge_to(labels: np.ndarray, n: int) -> np.ndarray:
    """Regions 0 … k − 1 >= n -> n of them: the smallest merges into its smallest neighbour (4 neighbours; the lower
    number of equals) until n are left (Partition, region rule of PoS)."""
    k = int(labels.max()) + 1
    size = np.bincount(labels.ravel(), minlength=k).tolist()
    adjoining: list[set[int]] = [set() for _ in range(k)]
    for a, b in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:])):
        differ = a != b
        pairs = np.unique(a[differ].astype(np.int64) * k + b[differ])
        for x, y in zip((pairs // k).tolist(), (pairs % k).tolist(), strict=True):
            adjoining[x].add(y)
            adjoining[y].add(x)
    owner = np.arange(k)
    smallest = [(s, i) for i, s in enumerate(size)]
    heapq.heapify(smallest)
    left = k
    while left > n:
        s, i = heapq.heappop(smallest)
        if owner[i] != i or s != size[i]:
            continue  # merged away, or grown since
        into = min(adjoining[i], key=lambda j: (size[j], j))
        owner[i] = into
        size[into] += s
        for j in adjoining[i] - {into}:
            adjoining[j].discard(i)
            adjoining[j].add(into)
            adjoining[into].add(j)
        adjoining[into].discard(i)
        heapq.heappush(smallest, (size[into], into))
        left -= 1
    while (owner[owner] != owner).any():
        owner = owner[owner]
    return np.unique(owner[labels], return_inverse=True)[1].reshape(labels.shape)


def _found(samples: np.ndarray, n: int) -> np.ndarray:
    """At least n components: of the segmentation, made finer as needed; where there is nothing to see, cut by a
    grid."""
    from skimage.segmentation import felzenszwalb

    height, width = samples.shape[:2]
    pixels = np.asarray(samples, np.float64)
    least = max(1, height * width // (SMALLEST * n))
    scale = SCALE
    labels = np.zeros((height, width), np.int32)
    while scale > 1:
        labels = components(felzenszwalb(pixels, scale=scale, sigma=SIGMA, min_size=least, channel_axis=2))
        if labels.max() + 1 >= n:
            return labels
        scale /= 4
    rows = columns = 1
    while True:
        cut = labels.astype(np.int64) * rows + (np.arange(height) * rows // height)[:, None]
        cut = components(np.unique(cut * columns + np.arange(width) * columns // width, return_inverse=True)[1]
                         .reshape(labels.shape))  # fmt: skip
        if cut.max() + 1 >= n:
            return cut
        rows, columns = (min(height, rows + 1), columns) if height * columns >= width * rows else (rows, columns + 1)


def _majority(labels: np.ndarray) -> np.ndarray:
    from skimage.filters.rank import majority
    from skimage.morphology import disk

    kind = np.uint8 if labels.max() < 256 else np.uint16
    return np.asarray(majority(labels.astype(kind), disk(SMOOTHING)), np.int32)
