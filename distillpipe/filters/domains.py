"""Domains for problems without one: clusters of the problems by their words.

    {"3f9a12c07be2a1d4": "cluster 03: triangle circle angle", ...}

We use TF-IDF, truncated SVD to 100 dimensions and k-means of scikit-learn; without SVD a third of the problems may end in
one cluster. It runs on one thread, because another order of sums could move a problem between two clusters. Problems are
clustered in the order of their ids, so the order of the input does not matter.
"""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from distillpipe.base.errors import MissingDependencyError, UsageError
from distillpipe.base.requirements import install_command

MAX_WORDS = 20_000  # the most frequent words
NUM_DIRECTIONS = 100
NUM_STARTS = 5  # of k-means, of which the best is kept
NUM_WORDS_IN_NAME = 3
WORD = r"(?u)\b[^\W\d_]{2,}\b"  # numbers say little about the topic of a problem


def cluster_domains(
    problems: Iterable[tuple[str, str]], num_clusters: int, seed: int
) -> dict[str, str]:
    """A domain for each problem, given as (id, text): the number and the characteristic words of its cluster.

    The first text of an id counts. Raises UsageError for fewer problems than clusters or problems without words,
    MissingDependencyError without scikit-learn.
    """
    sklearn = _sklearn()
    ids: list[str] = []
    vectorizer = sklearn.text.TfidfVectorizer(
        token_pattern=WORD, stop_words="english", sublinear_tf=True, max_features=MAX_WORDS
    )
    try:
        words = vectorizer.fit_transform(_distinct(problems, ids))
    except ValueError as error:
        raise UsageError(
            f"--num-clusters: the problems have no words ({error}): leave --num-clusters out"
        ) from error
    if len(ids) < num_clusters:
        raise UsageError(
            f"--num-clusters {num_clusters}: there are only {len(ids):,} problems: give a smaller number"
        )
    by_id = sorted(range(len(ids)), key=ids.__getitem__)
    words = words[by_id]
    with sklearn.threadpool_limits(1):
        numbers = _clusters(sklearn, words, num_clusters, seed)
    names = _names(words, numbers, num_clusters, vectorizer.get_feature_names_out())
    return {ids[place]: names[number] for place, number in zip(by_id, numbers, strict=True)}


def _distinct(problems: Iterable[tuple[str, str]], ids: list[str]) -> Iterable[str]:
    """Yield the text of each problem once; appends its id to `ids`."""
    seen: set[str] = set()
    for problem_id, problem in problems:
        if problem_id not in seen:
            seen.add(problem_id)
            ids.append(problem_id)
            yield problem


def _clusters(sklearn: Any, words: Any, num_clusters: int, seed: int) -> Any:
    """The cluster number of each problem, from its TF-IDF values [problem, word]."""
    if words.shape[1] > NUM_DIRECTIONS:
        directions = sklearn.TruncatedSVD(NUM_DIRECTIONS, random_state=seed).fit_transform(words)
        words = sklearn.normalize(directions)
    return sklearn.KMeans(num_clusters, n_init=NUM_STARTS, random_state=seed).fit_predict(words)


def _names(words: Any, numbers: Any, num_clusters: int, vocabulary: Any) -> list[str]:
    """`cluster 03: triangle circle angle`: the words with the highest sums of TF-IDF values."""
    digits = len(str(num_clusters - 1))
    names = []
    for number in range(num_clusters):
        sums = words[numbers == number].sum(axis=0).A1
        most = (-sums).argsort(kind="stable")[:NUM_WORDS_IN_NAME]
        characteristic = " ".join(vocabulary[place] for place in most if sums[place] > 0)
        names.append(f"cluster {number:0{digits}}: {characteristic}")
    return names


def _sklearn() -> Any:
    """The functions of scikit-learn and threadpoolctl that are used here."""
    try:
        from sklearn.cluster import KMeans
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction import text
        from sklearn.preprocessing import normalize
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingDependencyError(
            "--num-clusters needs scikit-learn, which is not installed: "
            f"{install_command('scikit-learn')}"
        ) from error
    return SimpleNamespace(
        KMeans=KMeans,
        TruncatedSVD=TruncatedSVD,
        normalize=normalize,
        text=text,
        threadpool_limits=threadpool_limits,
    )
