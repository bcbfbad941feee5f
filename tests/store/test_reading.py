"""Reading: bounded before it begins, and only what is a file."""

import os

import pytest

from kvlens import InputError, LayerSet, Trace
from kvlens import open as open_saved
from kvlens.store import reading
from kvlens.store.layer_ranges import MOST_LAYERS, parse_layers

READERS = [LayerSet.load, Trace.load, open_saved]


@pytest.mark.parametrize("read", READERS)
def test_a_pipe_is_refused_before_it_is_waited_for(read, tmp_path):
    for name in ("pipe.json", "pipe.safetensors"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match=rf"{name} is .*no regular file"):
            read(tmp_path / name)


@pytest.mark.parametrize("read", READERS)
def test_a_device_that_never_ends_is_refused(read):
    with pytest.raises(InputError, match="no regular file"):
        read("/dev/zero")


def test_a_file_larger_than_any_result_is_not_read(tmp_path):
    path = tmp_path / "layers.json"
    with path.open("wb") as file:
        file.truncate(reading.LARGEST_JSON + 1)  # takes no space
    for read in (LayerSet.load, open_saved):
        with pytest.raises(InputError, match="268,435,457 bytes, and at most 268,435,456"):
            read(path)


def test_absurd_lists_of_layers_are_refused_at_once():
    assert len(parse_layers(f"0-{MOST_LAYERS - 1}")) == MOST_LAYERS
    for text in ("0-999999", ",".join(["0-999999"] * 10_000), "7-" + "9" * 5_000):
        with pytest.raises(InputError, match="is not a list of layers") as refused:
            parse_layers(text)
        assert len(str(refused.value)) < 300
