"""The four stages: each reads from top to bottom, and they meet on disk only."""
