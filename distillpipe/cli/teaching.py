"""Option types of what sft learns of a teacher beside its tokens."""

from typing import Annotated

from distillpipe.base.options import Divergence, FeatureLoss, Schedule
from distillpipe.cli.options import option

TEACHING = "Soft labels"

KdWeight = Annotated[
    float,
    option(
        min=0.0,
        max=1.0,
        help="Weight w of the soft loss at a token with a soft label; the hard loss has 1 - w.",
        rich_help_panel=TEACHING,
    ),
]
KdWeightEnd = Annotated[
    float | None,
    option(min=0.0, max=1.0, help="Its value in the last step.", rich_help_panel=TEACHING),
]
KdDivergence = Annotated[
    Divergence,
    option(
        help="forward: KL(teacher || student), reverse: KL(student || teacher), js: both to a mixture.",
        rich_help_panel=TEACHING,
    ),
]
KdBeta = Annotated[
    float,
    option(help="Share of the teacher in the mixture of js.", rich_help_panel=TEACHING),
]
KdTemperature = Annotated[
    float,
    option(
        help="Of both distributions; the loss is multiplied by its square. Other than 1, stored labels "
        "are compared among the top-k alone.",
        rich_help_panel=TEACHING,
    ),
]
KdTemperatureEnd = Annotated[
    float | None,
    option(help="Its value in the last step.", rich_help_panel=TEACHING),
]
KdSchedule = Annotated[
    Schedule,
    option(help="Course of weight and temperature to their end values.", rich_help_panel=TEACHING),
]
KdAdaptive = Annotated[
    bool,
    option(
        "--kd-adaptive",
        help="Scale the weight by what is left of the first held-out loss (needs --eval-split; measured "
        "every --save-every steps).",
        rich_help_panel=TEACHING,
    ),
]
Teacher = Annotated[
    list[str] | None,
    option(
        help="A model that is loaded beside the student, and whose whole distribution is learnt from in "
        "place of stored labels; several: the mean of their losses.",
        rich_help_panel=TEACHING,
    ),
]
TeacherWeight = Annotated[
    list[float] | None,
    option(help="Of each --teacher, in their order.", rich_help_panel=TEACHING),
]
FeatureWeight = Annotated[
    float,
    option(
        min=0.0,
        help="Weight of the distance of hidden states to those of a --teacher.",
        rich_help_panel=TEACHING,
    ),
]
FeatureLayers = Annotated[
    list[str] | None,
    option(
        help="Layers that are compared, STUDENT:TEACHER, 1 is the first; without it all of the student, evenly "
        "spaced over the teacher's (fewer take less memory).",
        rich_help_panel=TEACHING,
    ),
]
FeatureDistance = Annotated[
    FeatureLoss,
    option(
        help="mse: mean squared difference, cosine: 1 - cosine similarity.",
        rich_help_panel=TEACHING,
    ),
]
RelationWeight = Annotated[
    float,
    option(
        min=0.0,
        help="Weight of the distance of the similarities of tokens, and of rows, to those of a --teacher.",
        rich_help_panel=TEACHING,
    ),
]
