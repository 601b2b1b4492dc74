"""From the rows of a dataset to batches of token ids."""
