"""`distill rescore`."""

from typing import Annotated

from distillpipe.base.option import Option
from distillpipe.base.options import JUDGING, AnswerForm, Judging, Verifier
from distillpipe.cli.parameters import Json, OptionValues, argument, command
from distillpipe.stages.run import Result, Run


@command(Judging, Run, without={"accept_errors", "allow_benchmark_training"})
def rescore(
    values: OptionValues,
    predictions: Annotated[
        list[str], argument("Datasets of predictions (PATH, PATH@v1), or OUT folders of eval.")
    ],
    *,
    verifier: Verifier = None,
    answer_form: Annotated[
        AnswerForm | None,
        Option(
            "Where the answer stands: boxed, or any. Default: as the version was judged.", JUDGING
        ),
    ] = None,
    as_json: Json = False,
) -> list[Result]:
    """Judge and score the completions of a finished eval anew.

    Nothing is sampled, and neither the model nor the benchmark is looked for. The
    scores are a new version beside the old one.

    \b
    Example:
      distill rescore runs/example/eval-teacher --answer-form any
    """
    from distillpipe.data.store.dataset import find_versions
    from distillpipe.stages.rescore import rescore as stage

    datasets = [
        version for reference in predictions for version in find_versions(reference).values()
    ]
    judging = values[Judging]
    return [stage(version, values.run, answer_form, verifier, judging) for version in datasets]
