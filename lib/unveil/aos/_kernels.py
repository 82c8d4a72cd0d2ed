"""The integrator's loops, compiled by Numba. Each works on the output rows first…end − 1, so that threads share them.

Positions are pixel indices: the centre of the first pixel is 0 and a picture reaches from −½ to its length − ½.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

UNSEEN = 256.0  # more than any spread of gray levels: pixels that more views see come first

_pools: dict[tuple[int, int], ThreadPoolExecutor] = {}


def share_rows(kernel: Callable, rows: int, threads: int | None, *arguments) -> None:
    """Run ``kernel(first, end, *arguments)`` over all rows on so many threads, which release the interpreter lock."""
    # A torch that was told to keep to one thread, as in a DataLoader's worker, speaks for the whole process.
    torch = sys.modules.get("torch")
    usual = torch.get_num_threads() if torch else os.cpu_count() or 1
    threads = max(1, min(threads or usual, rows))
    edges = np.linspace(0, rows, threads + 1).astype(int).tolist()
    jobs = []
    if threads > 1:
        # A forked child must not wait for its parent's threads: hence one pool per process.
        key = (os.getpid(), threads)
        if key not in _pools:
            _pools[key] = ThreadPoolExecutor(threads - 1, thread_name_prefix="unveil-integrator")
        jobs = [_pools[key].submit(kernel, *edges[i : i + 2], *arguments) for i in range(1, threads)]
    kernel(edges[0], edges[1], *arguments)
    for job in jobs:
        job.result()


def compiled(function: Callable, **options) -> Callable:
    """The function compiled, and kept on disk where there is a folder for that."""
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}} | options
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:
        return numba.njit(**options)(function)


@compiled
def _reach(columns, shift):
    """The columns that lie between two pixel centres of a row shifted by so many pixels, and those in its outer halves.

    Returns start and stop of the former, and the column in the first and in the last pixel's outer half or −1.
    """
    if not np.isfinite(shift) or abs(shift) > columns:
        return 0, 0, -1, -1
    whole = math.floor(shift)
    start = max(0, -whole)
    stop = max(start, min(columns, columns - 1 - whole))
    before = -1 - whole if shift - whole >= 0.5 and whole >= -columns else -1
    behind = columns - 1 - whole if shift - whole <= 0.5 and whole >= 0 else -1
    return start, stop, max(before, -1), behind


@compiled
def shift_rows(first, end, views, shifts, image, coverage):
    """Integrals of a straight-down rig: shifts (P, V) in pixels → image, coverage (P, H, W)."""
    planes, count = shifts.shape
    columns = views.shape[2]
    covered = np.zeros((planes, columns), np.int32)
    weight = np.empty((planes, columns), np.float32)
    for p in range(planes):
        for v in range(count):
            start, stop, before, behind = _reach(columns, shifts[p, v])
            covered[p, start - (before >= 0) : stop + (behind >= 0)] += 1
        for c in range(columns):
            weight[p, c] = np.float32(1) / np.float32(max(covered[p, c], 1))
    for r in range(first, end):
        for p in range(planes):
            total = image[p, r]
            total[:] = 0
            for v in range(count):
                start, stop, before, behind = _reach(columns, shifts[p, v])
                if start == stop and before < 0 and behind < 0:
                    continue
                row, whole = views[v, r], math.floor(shifts[p, v])
                right = np.float32(shifts[p, v] - whole)
                left = np.float32(1) - right
                span, shifted = total[start:stop], row[start + whole : stop + whole + 1]
                for c in range(len(span)):
                    span[c] += left * np.float32(shifted[c]) + right * np.float32(shifted[c + 1])
                if before >= 0:
                    total[before] += np.float32(row[0])
                if behind >= 0:
                    total[behind] += np.float32(row[columns - 1])
            for c in range(columns):
                total[c] *= weight[p, c]
                coverage[p, r, c] = covered[p, c]


@compiled
def candidate_rows(first, end, views, shifts, found, mean, spread):
    """Registered views found (P, V, H, W) uint8, filled with their mean; mean and spread (H, W) of the first plane."""
    planes, count = shifts.shape
    columns = views.shape[2]
    line = np.empty((count, columns), np.float32)
    seen = np.empty((count, 2), np.int64)
    for r in range(first, end):
        for p in range(planes):
            total, squares = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
            covered = np.zeros(columns, np.float32)
            for v in range(count):
                start, stop, before, behind = _reach(columns, shifts[p, v])
                seen[v, 0], seen[v, 1] = start - (before >= 0), stop + (behind >= 0)
                if seen[v, 0] == seen[v, 1]:
                    continue
                row, whole = views[v, r], math.floor(shifts[p, v])
                right = np.float32(shifts[p, v] - whole)
                left = np.float32(1) - right
                span, shifted = line[v, start:stop], row[start + whole : stop + whole + 1]
                for c in range(len(span)):
                    span[c] = left * np.float32(shifted[c]) + right * np.float32(shifted[c + 1])
                if before >= 0:
                    line[v, before] = row[0]
                if behind >= 0:
                    line[v, behind] = row[columns - 1]
                for c in range(seen[v, 0], seen[v, 1]):
                    total[c] += line[v, c]
                    squares[c] += line[v, c] * line[v, c]
                    covered[c] += np.float32(1)
            for c in range(columns):
                total[c] /= max(covered[c], np.float32(1))
            if p == 0:
                for c in range(columns):
                    mean[r, c] = total[c]
                    variance = max(squares[c] / max(covered[c], np.float32(1)) - total[c] * total[c], np.float32(0))
                    missing = np.float32(count) - covered[c]
                    spread[r, c] = math.sqrt(variance) + UNSEEN * missing if covered[c] > 0 else np.inf
            for v in range(count):
                said = found[p, v, r]
                start, stop = seen[v]
                line[v, :start] = total[:start]
                line[v, stop:] = total[stop:]
                for c in range(columns):
                    level = min(max(line[v, c] + np.float32(0.5), np.float32(0)), np.float32(255))
                    said[c] = np.uint8(np.int32(level))


@compiled
def _bilinear(view, x, y):
    """The view at (x, y), edge pixels clamped."""
    rows, columns = view.shape
    x = min(max(x, 0.0), columns - 1.0)
    y = min(max(y, 0.0), rows - 1.0)
    c0 = int(x)
    r0 = int(y)
    c1 = min(c0 + 1, columns - 1)
    r1 = min(r0 + 1, rows - 1)
    fx = np.float32(x - c0)
    fy = np.float32(y - r0)
    top = np.float32(view[r0, c0]) + fx * (np.float32(view[r0, c1]) - np.float32(view[r0, c0]))
    bottom = np.float32(view[r1, c0]) + fx * (np.float32(view[r1, c1]) - np.float32(view[r1, c0]))
    return top + fy * (bottom - top)


@compiled
def plane_rows(first, end, views, maps, sides, image, coverage):
    """Integrals of any rig: homographies (P, V, 3, 3) and visible sides (P, 3) → image, coverage (P, H, W).

    Two loops without branches, so that they become vector instructions: where to sample, then sampling.
    """
    planes, count = maps.shape[:2]
    rows, columns = np.int32(views.shape[1]), np.int32(views.shape[2])
    width = image.shape[2]
    # Unsigned indices spare a test for negative ones on each of the four reads.
    one, row = np.uint64(columns > 1), np.uint64(columns if rows > 1 else 0)
    corner, hit = np.empty(width, np.uint32), np.empty(width, np.int32)
    right, down = np.empty(width, np.float32), np.empty(width, np.float32)
    for r in range(first, end):
        y = r + 0.5
        for p in range(planes):
            total, covered, side = image[p, r], coverage[p, r], sides[p]
            total[:] = 0
            covered[:] = 0
            for v in range(count):
                m, flat = maps[p, v], views[v].reshape(-1)
                ax, ay, az, sa = m[0, 0], m[1, 0], m[2, 0], side[0]
                bx, by, bz = m[0, 1] * y + m[0, 2], m[1, 1] * y + m[1, 2], m[2, 1] * y + m[2, 2]
                sb = side[1] * y + side[2]
                for c in range(width):
                    x = c + 0.5
                    qz = az * x + bz
                    inverse = 1 / qz
                    sx = (ax * x + bx) * inverse
                    sy = (ay * x + by) * inverse
                    before = (qz > 0) & (sa * x + sb > 0)
                    held = before & (sx >= -0.5) & (sx <= columns - 0.5) & (sy >= -0.5) & (sy <= rows - 0.5)
                    sx = min(max(sx, 0.0), columns - 1.0) if held else 0.0
                    sy = min(max(sy, 0.0), rows - 1.0) if held else 0.0
                    ix = max(min(np.int32(sx), columns - np.int32(2)), np.int32(0))
                    iy = max(min(np.int32(sy), rows - np.int32(2)), np.int32(0))
                    right[c] = sx - ix
                    down[c] = sy - iy
                    corner[c] = iy * columns + ix
                    hit[c] = held
                for c in range(width):
                    i = np.uint64(corner[c])
                    a, b = np.float32(flat[i]), np.float32(flat[i + one])
                    d, e = np.float32(flat[i + row]), np.float32(flat[i + row + one])
                    above = a + right[c] * (b - a)
                    below = d + right[c] * (e - d)
                    total[c] += np.float32(hit[c]) * (above + down[c] * (below - above))
                    covered[c] += hit[c]
            for c in range(width):
                if covered[c]:
                    total[c] /= np.float32(covered[c])


@compiled
def register_rows(first, end, views, origins, directions, slope, z, heights, registered, inside):
    """Views seen from the target at a height per pixel (P, H, W) → registered, inside (P, V, H, W)."""
    planes, count, _, width = registered.shape
    rows, columns = views.shape[1:]
    for p in range(planes):
        for v in range(count):
            o, d = origins[v], directions[v]
            for r in range(first, end):
                y = r + 0.5
                for c in range(width):
                    x = c + 0.5
                    along = (-heights[p, r, c] - z) / (slope[0] * x + slope[1] * y + slope[2])
                    value = np.float32(0)
                    hit = False
                    if along > 0:
                        qz = o[2] + along * (d[2, 0] * x + d[2, 1] * y + d[2, 2])
                        if qz > 0:
                            sx = (o[0] + along * (d[0, 0] * x + d[0, 1] * y + d[0, 2])) / qz
                            sy = (o[1] + along * (d[1, 0] * x + d[1, 1] * y + d[1, 2])) / qz
                            if -0.5 <= sx <= columns - 0.5 and -0.5 <= sy <= rows - 0.5:
                                value = _bilinear(views[v], sx, sy)
                                hit = True
                    registered[p, v, r, c] = value
                    inside[p, v, r, c] = hit


@compiled
def statistics_rows(first, end, registered, inside, found):
    """Mean, median, maximum, minimum and standard deviation over the views inside → found (5, P, H, W)."""
    planes, count, _, width = registered.shape
    values = np.empty(count, np.float64)
    for p in range(planes):
        for r in range(first, end):
            for c in range(width):
                n = 0
                for v in range(count):
                    if inside[p, v, r, c]:
                        k = n
                        while k > 0 and values[k - 1] > registered[p, v, r, c]:
                            values[k] = values[k - 1]
                            k -= 1
                        values[k] = registered[p, v, r, c]
                        n += 1
                found[:, p, r, c] = 0
                if n > 0:
                    seen = values[:n]
                    found[0, p, r, c], found[4, p, r, c] = seen.mean(), seen.std()
                    found[1, p, r, c] = (seen[(n - 1) // 2] + seen[n // 2]) / 2
                    found[2, p, r, c], found[3, p, r, c] = seen[n - 1], seen[0]
