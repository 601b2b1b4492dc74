"""File formats of other tools: read their rows as traces, and write traces as their rows."""
