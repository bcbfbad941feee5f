"""Value Aggregation, derived again from raw transformers' own cache."""

import pytest
import torch
from method_cases import ARCHITECTURES, AWKWARD, build, close, embed, model, values_and_patterns


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_value_aggregation_from_the_cache(architecture):
    lm = model(architecture)
    for depth, layers in (((0.5, 1.0), (2, 3)), ((0.25, 0.75), (1, 2)), ((0.0, 0.0), (0,))):
        expected = []
        for text in AWKWARD:
            values = values_and_patterns(architecture, text)[0]
            flat = torch.stack([values[layer].transpose(0, 1).flatten(1) for layer in layers])
            expected.append(flat.mean(dim=(0, 1)))
        close(embed(build("value_aggregation", lm, depth=depth), lm, AWKWARD), expected)
    assert build("value_aggregation", lm).depth == (0.5, 1.0)
