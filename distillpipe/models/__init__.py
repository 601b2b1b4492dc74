"""Models: find and load them, render their chat templates, count tokens, read their licences."""
