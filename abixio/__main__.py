"""`python -m abixio` is the command `abixio`."""

import sys

from abixio.cli import main

if __name__ == "__main__":
    sys.exit(main())
