"""The transformers engine: continuous batching with a KV cache of our own, see `slots`."""
