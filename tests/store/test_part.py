"""One process at a time is at the folder of a run."""

import os
import time

import numpy as np
import pytest

from kvlens import InputError
from kvlens.store.chunk_index import Form
from kvlens.store.part import check_part, open_part

FACTS = {"model": "m"}
FORMS = {"x": Form("float32", 2)}


def test_two_processes_do_not_share_the_folder_of_a_run(tmp_path):
    part = tmp_path / "vectors.npy.part"
    ready, go = tmp_path / "ready", tmp_path / "go"
    child = os.fork()
    if child == 0:
        with open_part(part, FACTS, FORMS) as index:
            index.chunk("0.safetensors", 1, lambda: {"x": np.zeros((1, 2), np.float32)})
            ready.touch()
            while not go.exists():
                time.sleep(0.01)
        os._exit(0)
    try:
        while not ready.exists():
            time.sleep(0.01)
        with pytest.raises(InputError, match="another process is at"):
            check_part(part, wanted=True)
        with (
            pytest.raises(InputError, match="another process is at"),
            open_part(part, FACTS, FORMS),
        ):
            pass
        assert (part / "0.safetensors").exists()
    finally:
        go.touch()
        os.waitpid(child, 0)
    check_part(part, wanted=True)
    with open_part(part, FACTS, FORMS) as index:
        index.chunk("0.safetensors", 1, lambda: pytest.fail("it is finished"))
