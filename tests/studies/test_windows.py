"""Windows: every run of neighbouring layers."""

import pytest

from kvlens import InputError
from kvlens.studies.windows import windows


def test_windows():
    assert windows(4, (3, 4)) == [(0, 1, 2), (1, 2, 3), (0, 1, 2, 3)]
    for width in (0, 5):
        with pytest.raises(InputError, match=f"a window of {width} layers does not fit into 4"):
            windows(4, (width,))
