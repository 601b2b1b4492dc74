"""Reports on models and data: metrics, paired statistics, scores, comparisons, lineage, and their text."""
