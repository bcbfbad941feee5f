"""Vectors: each container gives back what was written; other files are refused."""

import numpy as np
import pytest
from embedding_cases import ENDINGS

from kvlens.embedding.vectors import load_vectors
from kvlens.store.errors import InputError


@pytest.mark.parametrize("ending", ENDINGS)
def test_other_files_are_not_read_as_vectors(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    with pytest.raises(InputError, match="not readable as kvlens vectors"):
        load_vectors(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="not readable as kvlens vectors") as error:
        load_vectors(path)
    assert "\n" not in str(error.value)
    np.save(tmp_path / "bare.npy", np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"bare\.npy\.json"):
        load_vectors(tmp_path / "bare.npy")
