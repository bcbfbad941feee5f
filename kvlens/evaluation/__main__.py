"""mteb's own command line, to which kvlens's methods are known.

``python -m kvlens.evaluation run -m kvlens/MODEL:METHOD -t TASK`` is ``mteb run`` with them.
"""

import sys

from mteb.cli import main

from kvlens.evaluation.adapter import register
from kvlens.store.errors import InputError

if __name__ == "__main__":
    for argument in sys.argv[1:]:
        if argument.startswith("kvlens/"):
            try:
                register(argument)
            except InputError as error:
                print(f"kvlens: {error}", file=sys.stderr)
                sys.exit(2)
    main()
