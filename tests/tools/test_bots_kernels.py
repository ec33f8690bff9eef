"""How bots compute what they do."""

import math

from hypothesis import given
from hypothesis import strategies as st

from tools.bots_kernels import _bearing


@given(st.floats(-math.pi, math.pi), st.floats(1e-3, 1e4))
def test_a_bearing_is_that_of_the_arc_tangent_within_a_fifth_of_a_unit(angle: float, length: float) -> None:
    off = _bearing(length * math.cos(angle), length * math.sin(angle)) - angle * 32768.0 / math.pi
    assert abs((off + 32768.0) % 65536.0 - 32768.0) < 0.2


def test_the_zero_vector_has_a_bearing() -> None:
    assert _bearing(0.0, 0.0) == 0.0
