"""The vLLM engine: one process for each replica, so that a crash of vLLM is an error here and no more."""
