"""`python -m edgevl` is `edgevl`."""

import sys

from edgevl.cli import main

if __name__ == "__main__":
    sys.exit(main())
