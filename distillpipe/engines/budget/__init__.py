"""Budget forcing (s1, Muennighoff et al. 2025): lower and upper bounds on the length of reasoning."""
