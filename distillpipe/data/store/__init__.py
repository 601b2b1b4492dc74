"""Datasets on disk: a dataset is a folder of immutable versions.

durability   `jsonl`, `writer`: a counted row survives a kill and a power loss
versions     `versions`, `manifest`, `locks`: open, resume and finish a draft; one writer at a time
integrity    `integrity`: refuse files that changed after they were written
reading      `dataset`: the rows of a version, a draft or a .jsonl file
reuse        `reuse`: rows that other versions hold already are found by row key, not sampled again
soft labels  `labels`, `label_writer`, `label_carry`: label files beside the rows
accounting   `counts`, `spending`: sums over rows, and what a server charged
"""
