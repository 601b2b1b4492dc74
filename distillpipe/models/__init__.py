"""Models: where they lie, how their chat templates and tokenizers work, under which licence they are."""
