"""Sweeps of spheres and capsules against a map: time of impact, normal, triangle, and overlap at the start.

    sweeps = Narrowphase(geometry)
    result = sweeps.capsules(bases, displacements, axes=(0, 0, 1.0), radii=0.375, mask=MOVEMENT_MASK)
    stopped = bases + result.time[:, None] * displacements

Kernels call `sim.narrowphase_kernels.sweep_candidates` themselves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sim.arrays import F64, I32
from sim.errors import SimError
from sim.geometry import Geometry
from sim.narrowphase_kernels import (
    CORNERS_SIZE,
    HIT_SIZE,
    SURFACE_SIZE,
    prepare_surfaces,
    sweep_batch,
)

__all__ = ["Narrowphase", "NarrowphaseError", "Sweeps", "surfaces_of"]


class NarrowphaseError(SimError):
    """A sweep is described wrongly."""


@dataclass(frozen=True, slots=True, eq=False)
class Sweeps:
    """What each of n sweeps met.

    Attributes:
        time: Share of the displacement at first touch, 1 where nothing is met; shape (n,), float64.
        normal: Unit vector from the surface to the capsule at that time, zero where nothing is met; shape (n, 3).
        triangle: Triangle met, the lowest number of equally early ones, or −1; shape (n,), int32.
        depth: How deep the capsule is in a triangle at the start, at worst [m], 0 where it is free; shape (n,).
        out: Direction of the shortest way out of that triangle; shape (n, 3).
    """

    time: F64
    normal: F64
    triangle: I32
    depth: F64
    out: F64


def surfaces_of(geometry: Geometry) -> F64:
    """The rows that sweep kernels read, one per triangle; layout at the top of `sim.narrowphase_kernels`."""
    surfaces = np.empty((len(geometry.corners), SURFACE_SIZE))
    prepare_surfaces(geometry.corners, geometry.contents, surfaces)
    return surfaces


class Narrowphase:
    """Sweeps against one geometry. Keeps scratch: one thread at a time."""

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._surfaces = surfaces_of(geometry)
        self._triangles = np.empty(len(self._surfaces), np.int32)
        self._scratch = np.empty((2, CORNERS_SIZE))

    def spheres(self, centres: ArrayLike, displacements: ArrayLike, *, radii: ArrayLike, mask: int) -> Sweeps:
        """Sweep spheres; as `capsules` with no axis."""
        return self.capsules(centres, displacements, axes=(0.0, 0.0, 0.0), radii=radii, mask=mask)

    def capsules(
        self, bases: ArrayLike, displacements: ArrayLike, *, axes: ArrayLike, radii: ArrayLike, mask: int
    ) -> Sweeps:
        """Sweep capsules along straight lines; exact, so that no speed tunnels.

        Args:
            bases: Centre of one end of each capsule [m], shape (n, 3).
            displacements: Way of each [m], shape (n, 3).
            axes: From one end's centre to the other's [m], shape (n, 3) or (3,); zero for a sphere.
            radii: Radius [m], one or one per sweep.
            mask: `Contents` bits, any of which a triangle must have.

        Raises:
            NarrowphaseError: A shape does not fit, a number is not finite, or a radius is not positive.
        """
        starts = _rows("bases", bases, len(np.asarray(bases)))
        sweeps = np.empty((len(starts), 10))
        sweeps[:, 0:3] = starts
        sweeps[:, 3:6] = _rows("displacements", displacements, len(starts))
        sweeps[:, 6:9] = _rows("axes", axes, len(starts))
        sweeps[:, 9] = np.asarray(radii, np.float64)
        if not np.isfinite(sweeps).all() or (sweeps[:, 9] <= 0.0).any():
            raise NarrowphaseError("sweeps must be finite and radii positive; check bases, displacements, axes, radii")
        triangle, hit = np.empty(len(starts), np.int32), np.empty((len(starts), HIT_SIZE))
        sweep_batch(self._geometry.arrays, self._surfaces, mask, sweeps, self._triangles, self._scratch, triangle, hit)
        return Sweeps(hit[:, 0].copy(), hit[:, 1:4].copy(), triangle, hit[:, 4].copy(), hit[:, 5:8].copy())


def _rows(name: str, values: ArrayLike, count: int) -> F64:
    """`values` as `count` float64 rows of three."""
    rows = np.asarray(values, np.float64)
    if rows.shape not in {(count, 3), (3,)}:
        raise NarrowphaseError(f"{name} has shape {rows.shape}, needed is ({count}, 3)")
    return np.broadcast_to(rows, (count, 3))
