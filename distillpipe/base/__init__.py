"""What every part may use: records, options, errors, hashing, progress. It imports nothing of the others."""
