"""Training: rows to tokens, losses, the loop."""
