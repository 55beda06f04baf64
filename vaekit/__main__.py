"""`python -m vaekit`."""

from vaekit.cli import program

if __name__ == "__main__":
    program()
