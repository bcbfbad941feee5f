"""Arrays: axes, types and finiteness, of numpy's and of torch's."""

import numpy as np
import pytest
import torch

from kvlens import InputError
from kvlens.store.arrays import check_array, check_finite, check_names

SIZES = {"n": 3, "d": 4}


@pytest.mark.parametrize("array", [np.zeros((3, 2, 4), np.float32), torch.zeros(3, 2, 4)])
def test_an_array_of_the_named_axes_passes(array):
    check_array("x", array, "n 2 d", SIZES)
    check_array("x", array, "n 2 d", SIZES, ("int64", "float32"))


@pytest.mark.parametrize("array", [np.zeros((3, 5), np.float32), torch.zeros(3, 5)])
def test_another_shape_is_said_with_the_axes(array):
    with pytest.raises(InputError, match=r"^x is \[3, 5\], not \[n, d\] = \[3, 4\]$"):
        check_array("x", array, "n d", SIZES)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int64, bool])
def test_another_type_is_named(dtype):
    for array in (np.zeros((3, 4), dtype), torch.from_numpy(np.zeros((3, 4), dtype))):
        with pytest.raises(InputError, match=rf"^x is {np.dtype(dtype).name}, not float32$"):
            check_array("x", array, "n d", SIZES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    for array in (np.zeros((2, 2), np.float32), torch.zeros(2, 2)):
        check_finite("x", array)
        array[1, 0] = value
        with pytest.raises(InputError, match=r"^x has NaN or infinity$"):
            check_finite("x", array)
    check_finite("x", np.zeros((0, 2)))


def test_names():
    check_names(["a", "b"], known=["a", "b", "c"], required=["a"])
    with pytest.raises(InputError, match="the array c is missing"):
        check_names(["a"], known=["a", "c"], required=["a", "c"])
    with pytest.raises(InputError, match=r"an unknown array 'xxx.*'") as refused:
        check_names(["a", "x" * 9_999], known=["a"], required=["a"])
    assert len(str(refused.value)) < 100
