"""What `show` knows: ancestors, disk use, single rows, and the text of each. Nothing here writes to disk."""
