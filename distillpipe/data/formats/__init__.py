"""Other people's data: rows come in as traces, traces go out as rows."""
