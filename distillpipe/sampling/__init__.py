"""Sampling: the plan of rows, prompts, the sampler, labelling by a teacher, estimates of tokens and money."""
