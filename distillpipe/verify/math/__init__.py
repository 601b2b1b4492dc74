"""The verifier `math`: answers in LaTeX or plain text, compared by value. math-verify is asked for what it cannot read."""
