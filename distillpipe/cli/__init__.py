"""The command line: one file a command, which holds its signature, its help, and nothing else."""
