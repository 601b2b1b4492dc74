"""Losses of a training step: token losses, soft losses, feature and relation losses."""
