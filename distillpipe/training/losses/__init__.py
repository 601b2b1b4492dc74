"""Losses of a training step: of tokens, of soft labels, of features and relations."""
