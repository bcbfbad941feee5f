"""Aligned weighted VA, derived again from attention weights, values and the output matrix."""

import pytest
import torch
from brute_force import output_of
from method_cases import (
    ARCHITECTURES,
    AWKWARD,
    build,
    close,
    embed,
    model,
    prepared,
    values_and_patterns,
)


def project(attention, mixed):
    """By the output matrix, which a Linear keeps transposed."""
    module = output_of(attention)
    weight = module.weight.T if isinstance(module, torch.nn.Linear) else module.weight
    return mixed @ weight + (0 if module.bias is None else module.bias)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_aligned_wva_from_patterns_values_and_the_output_matrix(architecture):
    lm = model(architecture)
    for depth, layers in (((0.5, 1.0), (2, 3)), ((0.25, 0.75), (1, 2))):
        expected = []
        for text in AWKWARD:
            prompted = f'This sentence : "{prepared(text)}" means in one word:"'
            values, patterns = values_and_patterns(architecture, prompted)
            outputs = []
            for layer in layers:
                n_groups = len(patterns[layer]) // len(values[layer])
                heads = values[layer].repeat_interleave(n_groups, dim=0)
                mixed = torch.einsum("hj,hjd->hd", patterns[layer][:, -1], heads).flatten()
                outputs.append(project(lm.attention(layer), mixed))
            expected.append(torch.stack(outputs).mean(0))
        close(embed(build("aligned_wva", lm, depth=depth), lm, AWKWARD), expected)
