"""`python -m longtake`, the same as the command `longtake`."""

from longtake.cli import main

if __name__ == "__main__":
    main()
