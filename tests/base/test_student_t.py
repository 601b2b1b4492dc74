"""Student's t against the tables that statistics books print."""

import pytest

from distillpipe.base.student_t import student_quantile, student_tail


# two-sided 95% points of any table of Student's t: the series is 11% low at 1 degree, 1% at 2
@pytest.mark.parametrize(
    ("degrees", "quantile", "tolerance"),
    [
        (1, 12.706, 1.41), (2, 4.3027, 0.033), (3, 3.1824, 0.004), (5, 2.5706, 0.0004),
        (10, 2.2281, 0.0001), (29, 2.0452, 0.0001), (499, 1.9647, 0.0001),
    ],
)  # fmt: skip
def test_the_quantile_is_students(degrees: int, quantile: float, tolerance: float) -> None:
    assert student_quantile(degrees) == pytest.approx(quantile, abs=tolerance)


# one-sided 95% points, as the 90% ranges of estimates need them
@pytest.mark.parametrize(
    ("degrees", "quantile"), [(4, 2.1318), (5, 2.0150), (9, 1.8331), (19, 1.7291), (99, 1.6604)]
)
def test_other_levels_begin_with_their_normal_quantile(degrees: int, quantile: float) -> None:
    assert student_quantile(degrees, 1.6448536269514722) == pytest.approx(quantile, abs=0.001)


@pytest.mark.parametrize(
    ("t", "degrees", "chance"),  # of any table of Student's t
    [
        (12.706, 1, 0.05), (4.3027, 2, 0.05), (3.1824, 3, 0.05), (2.7764, 4, 0.05), (2.0452, 29, 0.05),
        (2.0423, 30, 0.05), (1.9647, 499, 0.05), (2.7564, 29, 0.01), (63.657, 1, 0.01), (0.0, 7, 1.0),
    ],
)  # fmt: skip
def test_the_tail_is_students(t: float, degrees: int, chance: float) -> None:
    assert student_tail(t, degrees) == pytest.approx(chance, abs=1e-5)
