"""The verifier `math`: compares answers by value with our own rules, and with math-verify if they cannot decide."""
