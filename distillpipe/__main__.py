"""`python -m distillpipe` is `distill`."""

from distillpipe.cli.app import main

if __name__ == "__main__":
    main()
