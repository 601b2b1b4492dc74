"""What the intervals cover and how often the test errs: a part of scripts/coverage.py, and all of it."""

from collections.abc import Callable
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def simulation(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("coverage.py")


# n, k, p, spread between problems: where simple intervals fail
HARD = [
    (30, 1, 0.03, 0.0), (30, 1, 0.97, 0.0), (30, 4, 0.03, 1.0), (30, 64, 0.03, 1.0), (30, 64, 0.05, 1.0),
    (30, 64, 0.5, 0.0), (200, 4, 0.03, 3.0),
]  # fmt: skip


@pytest.mark.parametrize(("n", "k", "p", "spread"), HARD)
def test_intervals_cover_where_simple_ones_fail(simulation, n, k, p, spread) -> None:
    cell = simulation.score_cell(n, k, p, spread, runs=2000)
    assert cell.covered >= 0.925
    assert cell.covered >= cell.reference_covered - 0.002


def test_the_test_seldom_finds_what_is_not_there(simulation: ModuleType) -> None:
    for k in (1, 4):
        assert simulation.size_of_test(30, k, 0.5, 0.1, runs=1000) <= 0.055


def test_rare_large_losses_do_not_make_a_difference(simulation: ModuleType) -> None:
    signs, reported = simulation.size_of_tests_under_skew(30, 64, 0.9, 0.1, runs=1000)
    assert signs > 0.1
    assert reported <= 0.07


@pytest.mark.slow
def test_intervals_cover_95_percent_over_a_part_of_the_grid(simulation: ModuleType) -> None:
    """A sixteenth of its cells, each as often as in the whole; the cells that lie lowest are among them."""
    cells = [
        simulation.score_cell(n, k, p, spread, 20_000)
        for n in (30, 500)
        for k, spread in ((1, 0.0), (4, 1.0), (64, 0.1))
        for p in (0.03, 0.3, 0.5, 0.97)
    ]
    assert 0.945 <= sum(cell.covered for cell in cells) / len(cells) <= 0.97
    assert min(cells, key=lambda cell: cell.covered).covered >= 0.925


@pytest.mark.long
def test_intervals_cover_95_percent_over_the_whole_grid(simulation: ModuleType) -> None:
    widths: dict[tuple[int, int], list[float]] = {}
    cells = []
    for n, k, cell in simulation.score_cells(20_000):
        cells.append(cell)
        widths.setdefault((n, k), []).append(cell.width)
    assert len(cells) == 3 * 11 * (1 + 2 * 6)
    assert 0.945 <= sum(cell.covered for cell in cells) / len(cells) <= 0.97
    assert min(cells, key=lambda cell: cell.covered).covered >= 0.925
    assert max(sum(one) / len(one) for one in widths.values()) <= 1.15
    assert max(width for (_, k), one in widths.items() if k == 1 for width in one) <= 1.0 + 1e-9


@pytest.mark.slow
def test_rare_large_losses_seldom_make_a_difference(simulation: ModuleType) -> None:
    for n, k in ((30, 4), (30, 16), (30, 64), (50, 16), (50, 64)):
        assert simulation.size_of_tests_under_skew(n, k, 0.9, 0.1, runs=4000)[1] <= 0.06


@pytest.mark.slow
def test_intervals_of_differences_cover_on_average(simulation: ModuleType) -> None:
    settings = [
        (30, ks, p, spread, gain)
        for ks in simulation.PAIR_SAMPLES
        for p in (0.1, 0.5, 0.9)
        for spread in (0.0, 0.1, 1.0)
        for gain in (0.0, 0.15)
    ]
    covered = [simulation.pair_cell(*one, runs=4000).covered for one in settings]
    assert 0.945 <= sum(covered) / len(covered) <= 0.98


@pytest.mark.slow
def test_the_test_errs_in_at_most_one_case_of_twenty(simulation: ModuleType) -> None:
    for k in (1, 4, 64):
        for independent in (False, True):
            found = [
                simulation.size_of_test(30, k, p, spread, 4000, independent=independent)
                for p in (0.03, 0.3, 0.5, 0.9)
                for spread in (0.0, 0.1, 1.0)
            ]
            assert sum(found) / len(found) <= 0.05
            assert max(found) <= 0.055 + 3 * 0.0034  # three standard errors of 4,000 runs
