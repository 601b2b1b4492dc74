"""The vLLM engine: one process per replica, so that a crash of vLLM does not crash this process."""
