"""``python -m kvlens.cli`` is ``kvlens``."""

import sys

from kvlens.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
