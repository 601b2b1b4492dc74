"""`distill doctor`."""

from distillpipe.cli.parameters import Json, OptionValues, command


@command()
def doctor(_values: OptionValues, *, as_json: Json = False) -> None:
    """Say what this machine can run, and how to get the rest.

    Which engines, training methods and verdicts work here, with their versions, and
    the command that installs what is missing; whether model-written code can be run
    safely (a program is tried in the sandbox); GPUs, cores, memory, disk, model cache.

    \b
    Example:
      distill doctor
    """
    from distillpipe.stages.doctor import doctor as stage

    stage(as_json=as_json)
