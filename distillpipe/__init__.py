"""distillpipe distils a reasoning model into a small one: generate, filter, sft, eval."""

__version__ = "0.1.0"
