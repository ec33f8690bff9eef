"""Distance fields the plain way: Bellman-Ford over all links until nothing changes."""

import numpy as np

from sim.arrays import I32, I64, U8

FAR = 1 << 30


def distance_to(goal: int, links: I32, costs: U8) -> I64:
    """Cost of the cheapest way from every cell to the goal."""
    distance = np.full(len(links), FAR, np.int64)
    distance[goal] = 0
    while True:
        through = np.where(links >= 0, distance[links] + costs, FAR).min(axis=1)
        better = np.minimum(distance, np.minimum(through, FAR))
        if np.array_equal(better, distance):
            return distance
        distance = better
