"""Losses on hidden states: feature matching and similarity-preserving (relation) distillation.

Shapes: N supervised tokens of a pass, n of them compared, S and H the hidden sizes of student and teacher.

    feature    mse: the mean over the hidden size of the squared difference (Romero et al. 2015, FitNets);
               cosine: 1 - cosine similarity. If the widths differ, a learned projection maps S to H.
    relation   the mean squared difference of the cosine similarities of all pairs: of tokens of one row, and
               of rows, each the mean of its tokens (Tung and Mori 2019, similarity-preserving distillation)

Rows are compared with the rows of the same pass. So this part of the loss, and no other, depends on how a step is split
into passes and over processes. A row that is alone in its pass has no row to compare with.
"""

from collections.abc import Sequence

import numpy as np
import torch

from distillpipe.base.hashing import seed_of
from distillpipe.base.training_options import FeatureLoss

MAX_TOKENS = 256  # of a row, between which all pairs are compared


def feature_loss_sum(
    student: torch.Tensor,  # (N, H), projected if the widths differ
    teacher: torch.Tensor,  # (N, H)
    labelled: torch.Tensor,  # (N,) bool: tokens that the teacher has too
    kind: FeatureLoss,
) -> torch.Tensor:
    """The sum of the feature loss over the tokens that both models have."""
    ours, theirs = student[labelled].float(), teacher[labelled].float()
    if kind == "mse":
        return (ours - theirs).square().mean(-1).sum()
    return (1 - torch.nn.functional.cosine_similarity(ours, theirs, dim=-1)).sum()


def relation_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The mean squared difference of all pairwise similarities of (n, S) and (n, H); 0 without pairs."""
    number = len(student)
    if number < 2:
        return student.sum() * 0.0
    difference = _similarities(student) - _similarities(teacher)  # (n, n), 0 on the diagonal
    return difference.square().sum() / (number * (number - 1))


def relation_loss_sum(
    student: torch.Tensor,  # (N, S)
    teacher: torch.Tensor,  # (N, H)
    labelled: torch.Tensor,  # (N,) bool
    rows: Sequence[tuple[str, int]],
) -> torch.Tensor:
    """The relation loss within each row, plus, times the number of rows, that between the rows of a pass.

    `rows` has the id of each row and its share of the N tokens, in order. The tokens of a long row are sampled by
    its id, so the sample is the same in every epoch and run.
    """
    total = student.sum() * 0.0
    ours, theirs = [], []
    first = 0
    for name, length in rows:
        indices = labelled[first : first + length].nonzero()[:, 0] + first
        first += length
        if not len(indices):
            continue
        ours.append(student[indices].float().mean(0))
        theirs.append(teacher[indices].float().mean(0))
        indices = indices[_sample(name, len(indices)).to(indices.device)]
        total = total + relation_loss(student[indices], teacher[indices])
    if not ours:
        return total
    return total + len(rows) * relation_loss(torch.stack(ours), torch.stack(theirs))


def _sample(name: str, number: int) -> torch.Tensor:
    """Indices of at most MAX_TOKENS of `number` tokens."""
    if number <= MAX_TOKENS:
        return torch.arange(number)
    draw = np.random.default_rng(seed_of("relation", name))
    return torch.from_numpy(np.sort(draw.permutation(number)[:MAX_TOKENS]))


def _similarities(states: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(states.float(), dim=-1)
    return unit @ unit.T
