"""``python -m kvlens.cli`` is ``kvlens``."""

import sys

from kvlens.cli import main

if __name__ == "__main__":
    sys.exit(main())
