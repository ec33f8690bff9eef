"""Counter-based random numbers."""

import numpy as np
import pytest

from sim.rng import random_unit, stream_number, uniform
from tests.reference.rng import philox_4x32_10, unit_from


def test_philox_agrees_with_the_published_vectors() -> None:
    # Random123's kat_vectors, philox4x32-10.
    assert philox_4x32_10((0, 0, 0, 0), (0, 0)) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    counter = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    assert philox_4x32_10(counter, (0xA4093822, 0x299F31D0)) == (
        0xD16CFE09,
        0x94FDCCEB,
        0x5001E420,
        0x24126EA1,
    )


@pytest.mark.parametrize("seed", [0, 1, 2**62 + 12345])
def test_the_kernel_draws_what_the_reference_draws(seed: int) -> None:
    drawn = np.zeros(16)
    uniform(seed, 64, 123456, 77, drawn)
    expected = [
        unit_from(philox_4x32_10((123456, 77, 64, draw), (seed & 0xFFFFFFFF, seed >> 32))) for draw in range(16)
    ]
    assert drawn.tolist() == expected


def test_draws_are_uniform_and_streams_differ() -> None:
    draws = np.zeros(20000)
    uniform(1, stream_number("spread"), 5, 9, draws)
    assert 0.0 <= draws.min() < draws.max() < 1.0
    histogram = np.histogram(draws, 20, (0.0, 1.0))[0]
    assert ((histogram - 1000) ** 2 / 1000).sum() < 43.8  # chi-square, 19 degrees of freedom, p = 0.001
    assert len({random_unit(1, s, t, e, d) for s in (1, 2) for t in (1, 2) for e in (1, 2) for d in (0, 1)}) == 16
