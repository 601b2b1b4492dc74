"""Student's t distribution: its quantiles and tails (Abramowitz and Stegun 1964, 26.7)."""

import math

Z95 = 1.959963984540054
"the two-sided 95% point of the normal distribution"


def student_quantile(degrees: float, z: float = Z95) -> float:
    """Student's quantile from the normal one, `z` (26.7.5): at 95% two-sided it is 0.1% low at 3 degrees of
    freedom, 1% at 2, 11% at 1.
    """
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


def student_tail(t: float, degrees: int) -> float:
    """The chance of Student's t beyond -t or t, for a whole number of degrees (26.7.3, 26.7.4)."""
    angle = math.atan(t / math.sqrt(degrees))
    square = math.cos(angle) ** 2
    is_odd = degrees % 2
    term = total = (math.cos(angle) if degrees > 1 else 0.0) if is_odd else 1.0
    for power in range(3 if is_odd else 2, degrees - 1, 2):
        term *= square * (power - 1) / power
        total += term
    inside = math.sin(angle) * total
    if is_odd:
        inside = (angle + inside) * 2 / math.pi
    return min(1.0, max(0.0, 1 - inside))
