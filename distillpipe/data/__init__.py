"""What lies on disk: versions of datasets, the formats of other tools, problems and benchmarks."""
