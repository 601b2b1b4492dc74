"""Datasets on disk: a folder of immutable versions.

durability   `jsonl`, `writer`: a row that is counted survives a kill and a power loss
versions     `versions`, `manifest`, `locks`: a draft is opened, taken up again, finished; one writer at a time
reading      `dataset`: the rows of one or several versions, each once
identity     `reuse`: what was sampled already is found by its key and never sampled again
soft labels  `labels`, `label_writer`, `label_carry`: beside the rows, in files of their own
accounts     `counts`, `spending`: what rows add up to, what a server was paid
"""
