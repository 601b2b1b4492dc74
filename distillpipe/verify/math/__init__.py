"""The verifier `math`: compares answers by value, by rules of our own and by math-verify where they cannot decide."""
