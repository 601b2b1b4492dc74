"""What a command prints on stdout: data only; stages talk on stderr."""

from typing import Any

from distillpipe.base.terminal import put, put_json
from distillpipe.data.forecast import Forecast, lines_of
from distillpipe.stages.run import Result
from distillpipe.training.preview import Preview, print_preview


def put_found(found: Any, *, as_json: bool) -> None:
    """Print what a command returned: results only as JSON, forecasts and previews for a person too."""
    if isinstance(found, Preview):
        if as_json:
            put_json({"preview": found})
        else:
            print_preview(found)
        return
    forecasts = [one for one in found or [] if isinstance(one, Forecast)]
    if forecasts and as_json:
        put_json({"dry_run": forecasts})
    elif forecasts:
        put(line for one in forecasts for line in lines_of(one))
    elif found is not None and as_json:
        put_json({"versions": [_version(one) for one in found]})


def _version(result: Result) -> dict[str, Any]:
    return {
        "path": str(result.path), "up_to_date": result.up_to_date, "manifest": result.manifest,
    }  # fmt: skip
