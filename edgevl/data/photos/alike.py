"""Pictures that are nearly the same: a copy in another size or of another compression, the next of a burst.

Shapes: N pictures, P values of a small version.
"""

from collections.abc import Iterator, Sequence

import numpy as np

SIDE = 16  # pixels of the small version
MEAN, MOST = 1.5, 16  # how far two small versions may be apart, of 255: on average, and in any one value
_BLOCK = 512


def small(pixels_SS3: np.ndarray) -> np.ndarray:
    """Return a small version as one row, int16 [P]."""
    return pixels_SS3.reshape(-1).astype(np.int16)


def pairs_alike(rows: Sequence[np.ndarray]) -> Iterator[tuple[int, int]]:
    """Yield (i, j) of small versions that are nearly the same, i before j in the order of their mean.

    Only those of nearly the same mean are compared: a difference of means is never above the mean difference.
    """
    if not rows:
        return
    rows_NP = np.stack(rows)
    mean_N = rows_NP.mean(axis=1)
    order_N = np.argsort(mean_N, kind="stable")
    sorted_N = mean_N[order_N]
    for place, index in enumerate(order_N):
        end = int(np.searchsorted(sorted_N, sorted_N[place] + MEAN, side="right"))
        for start in range(place + 1, end, _BLOCK):
            others = order_N[start : min(start + _BLOCK, end)]
            apart_MP = np.abs(rows_NP[others] - rows_NP[index])
            near_M = (apart_MP.mean(axis=1) <= MEAN) & (apart_MP.max(axis=1) <= MOST)
            yield from ((int(index), int(other)) for other in others[near_M])
