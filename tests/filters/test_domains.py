"""Domains made of the problems' words: as the words are, whatever the order, and named by them."""

import random
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from distillpipe.base.errors import UsageError
from distillpipe.base.requirements import install_command
from distillpipe.filters.domains import cluster_domains

TOPICS = {
    "geometry": ["triangle", "circle", "angle", "radius", "tangent"],
    "chance": ["dice", "probability", "coin", "random", "draw"],
    "trains": ["train", "speed", "hours", "distance", "station"],
}


@pytest.fixture(scope="session")
def problems() -> list[tuple[str, str]]:
    """Thirty problems of each of three topics; the topic stands in the id."""
    draw = random.Random(0)
    return [
        (f"{topic}-{number:02}", " ".join(draw.choices(words, k=6)) + f" {number} and {number}?")
        for topic, words in TOPICS.items()
        for number in range(30)
    ]


def test_problems_of_the_same_words_are_of_one_domain(problems) -> None:
    domains = cluster_domains(problems, 3, seed=0)
    of_topic = {topic: {domains[f"{topic}-{at:02}"] for at in range(30)} for topic in TOPICS}
    assert [len(names) for names in of_topic.values()] == [1, 1, 1]
    assert len(set(domains.values())) == 3


def test_a_domain_is_named_by_number_and_its_most_telling_words(problems) -> None:
    for problem, domain in cluster_domains(problems, 3, seed=0).items():
        number, words = domain.removeprefix("cluster ").split(": ")
        assert number in "012"
        assert len(words.split()) == 3
        assert set(words.split()) < set(TOPICS[problem.split("-")[0]])


def test_the_order_of_the_problems_does_not_matter_nor_that_they_come_twice(problems) -> None:
    shuffled = random.Random(1).sample(problems, len(problems))
    twice = [*shuffled, *((problem_id, "another text") for problem_id, _ in problems)]
    assert cluster_domains(iter(twice), 7, seed=3) == cluster_domains(problems, 7, seed=3)


def test_another_seed_makes_other_domains(problems) -> None:
    assert cluster_domains(problems, 7, seed=1) != cluster_domains(problems, 7, seed=2)


def test_more_clusters_than_problems_is_an_error(problems) -> None:
    with pytest.raises(UsageError, match="--num-clusters 4: there are only 3 problems"):
        cluster_domains(problems[:3], 4, seed=0)


@pytest.mark.parametrize("texts", [[], ["7", "1+1=?", ""]])
def test_problems_without_words_are_an_error(texts) -> None:
    with pytest.raises(UsageError, match="--num-clusters: the problems have no words"):
        cluster_domains([(str(at), text) for at, text in enumerate(texts)], 2, seed=0)


def test_without_the_library_the_error_names_the_command_that_installs_it() -> None:
    program = """if True:
        import sys
        sys.modules["sklearn"] = None  # as where it is not installed
        from distillpipe.base.errors import MissingDependencyError
        from distillpipe.filters.domains import cluster_domains
        try:
            cluster_domains([("a", "b")], 2, seed=0)
        except MissingDependencyError as error:
            sys.exit(str(error))
    """
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.stderr.strip() == (
        f"--num-clusters needs scikit-learn, which is not installed: {install_command('scikit-learn')}"
    )


@pytest.mark.reference
def test_real_problems_fall_into_domains_of_their_subjects_and_none_takes_most(
    reference_rows: Callable[[str], list[dict[str, Any]]],
) -> None:
    rows = reference_rows("math/math500.jsonl")
    domains = cluster_domains([(row["unique_id"], row["problem"]) for row in rows], 12, seed=0)
    subjects: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        subjects[domains[row["unique_id"]]][row["subject"]] += 1
    assert len(subjects) == 12
    assert max(of_domain.total() for of_domain in subjects.values()) < 500 / 3
    in_largest = sum(max(of_domain.values()) for of_domain in subjects.values())
    assert in_largest / 500 > 0.35  # Algebra, the largest subject, has 0.248 of all
