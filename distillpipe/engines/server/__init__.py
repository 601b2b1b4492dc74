"""A server with an OpenAI-compatible API: vLLM, SGLang, DeepSeek and others."""
