"""Budget forcing (s1, Muennighoff et al. 2025): how long a thought has to be and may be."""
