"""Logit and feature distillation: stored soft labels, live teachers, and their losses."""
