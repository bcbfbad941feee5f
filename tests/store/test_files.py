"""Files are written whole or not at all, and others can read them."""

import pytest
import torch
from safetensors.torch import save_file

from kvlens import InputError
from kvlens.store.files import atomic_path


def test_atomic_path_leaves_nothing_half_written(tmp_path):
    target = tmp_path / "out.json"
    target.write_text("old")

    def half_write():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half_write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    with pytest.raises(InputError, match="cannot write"), atomic_path(target / "below" / "a file"):
        pass


def test_what_is_written_can_be_read_by_others(tmp_path):
    (plain := tmp_path / "plain").touch()
    with atomic_path(tmp_path / "v.safetensors") as temporary:
        save_file({"v": torch.zeros(1)}, temporary)
    assert (tmp_path / "v.safetensors").stat().st_mode == plain.stat().st_mode
