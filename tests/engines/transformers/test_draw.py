"""Sampled tokens follow the nucleus of the softmax. Uniforms are an even grid, so frequencies are exact."""

import numpy as np
import pytest
import torch

from distillpipe.engines.transformers.draw import NUM_LARGEST, draw_tokens, uniforms

MASK = 2**64 - 1


def logits_of(size: int, spread: float, seed: int = 0) -> torch.Tensor:
    """Logits in even steps from 0 to `spread`, (V,), in an order of the seed's own."""
    order = np.argsort(uniforms(np.full(size, seed, dtype=np.uint64), range(size)))
    return torch.linspace(0.0, spread, size)[torch.from_numpy(order)]


def draw(logits: torch.Tensor, temperature: float, top_p: float, uniform: torch.Tensor):
    """Tokens (A,) for one row of logits (V,) and many uniforms (A,)."""
    rows = len(uniform)
    return draw_tokens(
        logits.expand(rows, -1),
        torch.full((rows,), temperature),
        torch.full((rows,), top_p),
        uniform,
    )


def nucleus(logits: torch.Tensor, temperature: float, top_p: float) -> np.ndarray:
    """The distribution to draw from, (V,): the fewest likeliest tokens that hold `top_p` of the mass."""
    scaled = logits.double().numpy() / temperature
    probabilities = np.exp(scaled - scaled.max())
    probabilities /= probabilities.sum()
    order = np.argsort(-probabilities)
    size = int(np.searchsorted(np.cumsum(probabilities[order]), top_p)) + 1
    inside = np.zeros_like(probabilities)
    inside[order[:size]] = probabilities[order[:size]]
    return inside / inside.sum()


GRID = 20_000
CASES = {
    "the usual settings": (50, 5.0, 0.6, 0.95, 18),
    "temperature one": (50, 5.0, 1.0, 0.95, 29),
    "hot": (50, 5.0, 2.0, 0.95, 41),
    "all of the vocabulary": (50, 5.0, 1.0, 1.0, 50),
    "a small nucleus": (50, 5.0, 1.0, 0.3, 4),
    "the largest alone": (50, 5.0, 1.0, 0.01, 1),
    "a vocabulary just as large as the shortcut": (NUM_LARGEST, 3.0, 1.0, 1.0, NUM_LARGEST),
    "the nucleus inside the shortcut": (300, 6.0, 1.0, 0.9, 114),
    "the nucleus larger than the shortcut": (300, 2.0, 1.0, 0.95, 259),
    "all of a vocabulary larger than the shortcut": (300, 2.0, 1.0, 1.0, 300),
    "one token": (1, 1.0, 1.0, 0.95, 1),
}


@pytest.mark.parametrize(
    ("size", "spread", "temperature", "top_p", "num_inside"), CASES.values(), ids=CASES.keys()
)
def test_frequencies_follow_the_softmax_inside_the_nucleus(
    size, spread, temperature, top_p, num_inside
) -> None:
    logits = logits_of(size, spread)
    grid = (torch.arange(GRID) + 0.5) / GRID
    drawn = draw(logits, temperature, top_p, grid)
    frequencies = np.bincount(drawn.numpy(), minlength=size) / GRID
    expected = nucleus(logits, temperature, top_p)
    assert np.count_nonzero(expected) == num_inside
    # an even grid misses each token's share by less than one point; float32 sums move an edge a little
    assert np.abs(frequencies - expected).max() < 1.5 / GRID
    assert set(drawn.tolist()) <= set(np.flatnonzero(expected).tolist())


def test_the_token_that_crosses_top_p_is_inside() -> None:
    logits = torch.tensor([0.2, 0.5, 0.3]).log()
    grid = (torch.arange(1000) + 0.5) / 1000
    assert np.bincount(draw(logits, 1.0, 0.51, grid)).tolist() == [0, 625, 375]
    assert np.bincount(draw(logits, 1.0, 0.49, grid)).tolist() == [0, 1000]


@pytest.mark.parametrize("size", [50, 300])
def test_the_ends_of_the_unit_interval_draw_the_likeliest_and_the_last_token(size: int) -> None:
    logits = logits_of(size, 3.0)
    below_one = 1 - 2**-24
    drawn = draw(logits, 1.0, 0.9, torch.tensor([0.0, below_one])).tolist()
    expected = nucleus(logits, 1.0, 0.9)
    inside = np.flatnonzero(expected)
    assert drawn == [int(expected.argmax()), int(inside[expected[inside].argmin()])]


def test_tokens_without_mass_are_never_drawn() -> None:
    logits = torch.full((200,), -torch.inf)
    logits[[7, 150]] = 0.0
    grid = (torch.arange(1000) + 0.5) / 1000
    drawn = draw(logits, 1.0, 1.0, grid)
    assert torch.bincount(drawn, minlength=200)[[7, 150]].tolist() == [500, 500]


@pytest.mark.parametrize("size", [1, 50, NUM_LARGEST, 300])
def test_greedy_takes_the_largest_whatever_the_uniform(size: int) -> None:
    logits = torch.stack([logits_of(size, 3.0, seed) for seed in range(20)])
    rows = len(logits)
    drawn = draw_tokens(logits, torch.zeros(rows), torch.full((rows,), 0.95), torch.rand(rows))
    assert drawn.tolist() == logits.argmax(-1).tolist()


def test_of_equal_largest_logits_greedy_takes_the_first_alone_or_beside_sampled_rows() -> None:
    tied = torch.zeros(300)
    tied[[5, 200]] = 1.0
    rows = torch.stack([tied, logits_of(300, 2.0)])
    drawn = draw_tokens(rows, torch.tensor([0.0, 1.0]), torch.ones(2), torch.full((2,), 0.9))
    alone = draw_tokens(rows[:1], torch.zeros(1), torch.ones(1), torch.full((1,), 0.9))
    assert drawn[0] == alone[0] == 5


def test_each_token_owns_its_lower_edge_of_the_unit_interval() -> None:
    edges = torch.tensor([0.0, 0.25, 0.5, 0.75])
    assert sorted(draw(torch.zeros(4), 1.0, 1.0, edges).tolist()) == [0, 1, 2, 3]


def test_a_tiny_temperature_is_as_good_as_greedy() -> None:
    logits = logits_of(50, 3.0)
    grid = (torch.arange(100) + 0.5) / 100
    assert set(draw(logits, 1e-3, 1.0, grid).tolist()) == {int(logits.argmax())}


def test_rows_do_not_depend_on_their_neighbours() -> None:
    # greedy and sampled rows, narrow ones and one whose nucleus is larger than the shortcut
    spreads = enumerate([9.0, 9.0, 2.0, 30.0])
    logits = torch.stack([logits_of(300, spread, at) for at, spread in spreads])
    temperature = torch.tensor([0.0, 0.7, 1.0, 0.0])
    top_p = torch.tensor([0.95, 0.9, 0.99, 1.0])
    for uniform in torch.arange(1, 40) / 40:
        together = draw_tokens(logits, temperature, top_p, uniform.expand(4))
        alone = [
            draw_tokens(
                logits[at : at + 1], temperature[at : at + 1], top_p[at : at + 1], uniform[None]
            ).item()
            for at in range(4)
        ]
        assert together.tolist() == alone
        assert alone[0] == int(logits[0].argmax())
        assert alone[3] == int(logits[3].argmax())


def splitmix(seed: int, position: int) -> float:
    """The same hash in whole numbers of Python, which do not overflow."""

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return x ^ (x >> 31)

    x = mix((seed * 0x9E3779B97F4A7C15) & MASK) + (position + 1) * 0xD1342543DE82EF95
    return (mix(x & MASK) >> 40) / 2**24


SEEDS = [0, 1, 2, 123, 2**31 - 1, 2**63, 2**64 - 1]


@pytest.mark.parametrize("position", [0, 1, 2, 1000, 32767])
def test_uniforms_are_those_of_the_hash_for_every_seed(position: int) -> None:
    drawn = uniforms(np.array(SEEDS, dtype=np.uint64), [position] * len(SEEDS))
    assert drawn.dtype == np.float32
    assert drawn.tolist() == [splitmix(seed, position) for seed in SEEDS]


def test_equal_seed_and_position_give_equal_uniforms_in_any_order() -> None:
    seeds = np.array([5, 6, 7], dtype=np.uint64)
    drawn = uniforms(seeds, [10, 20, 30])
    assert uniforms(seeds[::-1], [30, 20, 10]).tolist() == drawn[::-1].tolist()
    assert uniforms(seeds[1:2], [20]).tolist() == drawn[1:2].tolist()


def test_another_seed_or_position_gives_another_uniform() -> None:
    seeds, positions = np.divmod(np.arange(100), 10)
    drawn = uniforms(seeds.astype(np.uint64), positions.tolist())
    assert len(set(drawn.tolist())) == 100


@pytest.mark.parametrize("along", ["seeds", "positions"])
def test_uniforms_spread_evenly_over_the_unit_interval(along: str) -> None:
    many, one = np.arange(5000), np.zeros(5000, dtype=int)
    seeds, positions = (many, one) if along == "seeds" else (one, many)
    drawn = np.sort(uniforms(seeds.astype(np.uint64), positions.tolist()))
    assert drawn[0] >= 0.0
    assert drawn[-1] < 1.0
    # Kolmogorov-Smirnov: for 5000 even draws the distance is above 0.0276 once in a thousand times
    assert np.abs(drawn - np.arange(5000) / 5000).max() < 0.0276


def test_no_rows_draw_no_uniforms() -> None:
    assert uniforms(np.array([], dtype=np.uint64), []).shape == (0,)


def test_a_row_draws_the_same_beside_one_that_needs_all_of_the_vocabulary() -> None:
    logits = logits_of(300, 6.0)
    grid = (torch.arange(GRID) + 0.5) / GRID
    together = draw(logits, 1.0, 1.0, grid)
    few = grid < 0.9  # which the largest tokens hold
    largest = set(logits.topk(NUM_LARGEST).indices.tolist())
    assert set(together[few].tolist()) <= largest
    assert set(together.tolist()) > largest
    assert draw(logits, 1.0, 1.0, grid[few]).tolist() == together[few].tolist()
