"""What a command prints on stdout: data only. Messages go to stderr."""

from typing import Any

from distillpipe.base.terminal import put, put_json
from distillpipe.data.forecast import Forecast, lines_of
from distillpipe.training.preview import Preview, print_preview


def put_result(result: Any, *, as_json: bool) -> None:
    """Print what a command returned: versions only as JSON, forecasts and previews as text too."""
    if isinstance(result, Preview):
        if as_json:
            put_json({"preview": result})
        else:
            print_preview(result)
        return
    forecasts = [item for item in result or [] if isinstance(item, Forecast)]
    if forecasts and as_json:
        put_json({"dry_run": forecasts})
    elif forecasts:
        put(line for forecast in forecasts for line in lines_of(forecast))
    elif result is not None and as_json:
        versions = [
            {"path": str(path), "up_to_date": up_to_date, "manifest": manifest}
            for path, manifest, up_to_date in result
        ]
        put_json({"versions": versions})
