"""The verifier `code`: programs that models write, run against tests in a sandbox."""
