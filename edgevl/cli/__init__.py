"""The command line. `main(argv)` parses, calls one library function, prints, and returns the exit code."""

from edgevl.cli.app import main

__all__ = ["main"]
