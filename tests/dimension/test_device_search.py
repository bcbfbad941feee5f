"""Device search: by torch, with the same neighbours to the bit. Here its device is the CPU."""

import numpy as np
import pytest
import torch
from manifolds import ball, embed

from kvlens.dimension import device_search
from kvlens.dimension.cloud import Cloud
from kvlens.dimension.device_search import search_on
from kvlens.dimension.estimation import estimate_points
from kvlens.dimension.neighbours import neighbours_in
from kvlens.store.errors import InputError


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_neighbours_are_the_same(dtype, monkeypatch):
    monkeypatch.setattr(device_search, "COLUMNS", 130)
    points = embed(ball(400, 5, seed=0), 30).astype(dtype)
    points[::3, 2] += 1e4
    cloud = Cloud.of(points)
    for of in (None, np.r_[3, 129, 130, 399]):
        expected = neighbours_in(cloud, 20, of)
        found = neighbours_in(cloud, 20, of, search_on("cpu"))
        assert np.array_equal(found.distances, expected.distances)
        assert np.array_equal(found.indices, expected.indices)


def test_unknown_and_absent_devices_are_refused():
    points = ball(60, 3, seed=0)
    with pytest.raises(InputError, match="device"):
        estimate_points(points, device="nope")
    with pytest.raises(InputError, match="device"):
        estimate_points(points, device="meta")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA here"):
            estimate_points(points, device="cuda")
