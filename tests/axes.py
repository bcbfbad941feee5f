"""Axes: every function that says the axes of its tensors is checked by each test that calls it."""

import random
from pathlib import Path
from unittest.mock import patch

from jaxtyping import install_import_hook

# beartype looks at one element of a long list, and draws which. It gets a generator of its own,
# since tests watch that nothing of kvlens draws from Python's.
with patch("random.getrandbits", random.Random(0).getrandbits):
    from beartype import BeartypeConf, beartype

PACKAGE = Path(__file__).parents[1] / "kvlens"
# Here plain arguments of a wrong type are refused by an `InputError`, which the tests look for.
BY_HAND = {
    "kvlens.embedding.encoder",
    "kvlens.embedding.file_run",
    "kvlens.layers.shape",
    "kvlens.methods.aligned_wva",
    "kvlens.methods.base",
    "kvlens.methods.kv_embedding",
    "kvlens.methods.value_aggregation",
}
DRAWING = ("kvlens.plots.", "kvlens.reporting.")  # their types are matplotlib's and pydantic's


def modules_with_axes() -> list[str]:
    """Every module of kvlens that says the axes of a tensor."""
    files = [path for path in PACKAGE.rglob("*.py") if "from jaxtyping import" in path.read_text()]
    names = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in files]
    return sorted(name for name in set(names) - BY_HAND if not name.startswith(DRAWING))


checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float


def check_axes() -> None:
    """From now on imports of these modules check axes and dtypes at every call."""
    install_import_hook(modules_with_axes(), "axes.checked")
