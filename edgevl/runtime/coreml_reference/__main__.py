"""Look at a package from the command line. `python -m edgevl.runtime.coreml_reference --help`."""

import sys

from .command import main

if __name__ == "__main__":
    sys.exit(main())
