"""The facade imports nothing heavy."""

import subprocess
import sys


def test_importing_kvlens_is_light():
    code = (
        "import sys, kvlens;"
        "heavy = ('torch', 'numpy', 'matplotlib', 'pydantic');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
