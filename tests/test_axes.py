"""The check of axes that every test runs with: it reaches the tensor code, and it can fail."""

import pytest
import torch
from axes import modules_with_axes
from jaxtyping import TypeCheckError

from kvlens.texts.batches import position_ids


def test_the_rooms_of_tensors_are_checked():
    checked = modules_with_axes()
    rooms = {name.split(".")[1] for name in checked}
    assert rooms >= {"analysis", "dimension", "embedding", "evaluation", "methods", "models"}
    assert rooms >= {"rerouting", "studies", "texts", "tracing"}
    assert "kvlens.texts.batches" in checked


def test_wrong_axes_are_noticed():
    assert position_ids(torch.ones((2, 3), dtype=torch.long)).shape == (2, 3)
    with pytest.raises(TypeCheckError, match="position_ids"):
        position_ids(torch.ones(3, dtype=torch.long))
