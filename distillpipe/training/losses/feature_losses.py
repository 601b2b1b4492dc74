"""Losses on hidden states: how far the student's layers are from the teacher's, and its similarities from theirs.

Shapes: N supervised tokens of a pass, n of them compared, S and H hidden sizes of student and teacher.

    feature    mse: the mean over the hidden size of the squared difference (Romero et al. 2015, FitNets);
               cosine: 1 - cosine similarity. Where the widths differ, a learnt projection makes H of S.
    relation   the mean squared difference of the cosine similarities of all pairs: of tokens of one row, and
               of rows, each the mean of its tokens (Tung and Mori 2019, similarity-preserving distillation)

Rows are compared with those of their pass, so that part alone of all losses depends on how a step is split into passes
and over processes; a row that is alone in its pass is compared with none.
"""

from collections.abc import Sequence

import numpy as np
import torch

from distillpipe.base.hashing import seed_of
from distillpipe.base.training_options import FeatureLoss

MAX_TOKENS = 256  # of a row whose pairs are compared


def feature_loss_sum(
    student: torch.Tensor,  # (N, H), projected where the widths differ
    teacher: torch.Tensor,  # (N, H)
    labelled: torch.Tensor,  # (N,) bool: the tokens that the teacher has too
    kind: FeatureLoss,
) -> torch.Tensor:
    """The sum over the tokens that both have."""
    ours, theirs = student[labelled].float(), teacher[labelled].float()
    if kind == "mse":
        return (ours - theirs).square().mean(-1).sum()
    return (1 - torch.nn.functional.cosine_similarity(ours, theirs, dim=-1)).sum()


def relation_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Between the similarities of all pairs of (n, S) and of (n, H); 0 where there is no pair."""
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
    """Within each row, and, as often as there are rows, between the rows of a pass.

    `rows` are the names of the rows and how many of the N tokens each has, one behind the other. Which tokens
    of a long row are compared is drawn by its name, so it is the same in every epoch and run.
    """
    total = student.sum() * 0.0
    ours, theirs = [], []
    first = 0
    for name, length in rows:
        places = labelled[first : first + length].nonzero()[:, 0] + first
        first += length
        if not len(places):
            continue
        ours.append(student[places].float().mean(0))
        theirs.append(teacher[places].float().mean(0))
        places = places[_sample(name, len(places)).to(places.device)]
        total = total + relation_loss(student[places], teacher[places])
    if not ours:
        return total
    return total + len(rows) * relation_loss(torch.stack(ours), torch.stack(theirs))


def _sample(name: str, number: int) -> torch.Tensor:
    """At most MAX_TOKENS of `number` places."""
    if number <= MAX_TOKENS:
        return torch.arange(number)
    draw = np.random.default_rng(seed_of("relation", name))
    return torch.from_numpy(np.sort(draw.permutation(number)[:MAX_TOKENS]))


def _similarities(states: torch.Tensor) -> torch.Tensor:
    unit = torch.nn.functional.normalize(states.float(), dim=-1)
    return unit @ unit.T
