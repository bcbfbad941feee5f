"""Small models on a GPU; ``KVLENS_TEST_DEVICE=cpu`` tries the tests themselves without one."""

import copy
import os

import pytest
import torch
from brute_force import model
from zoo import byte_tokenizer

import kvlens

DEVICE = os.environ.get("KVLENS_TEST_DEVICE", "cuda")
NEEDED = [
    pytest.mark.cuda,
    pytest.mark.skipif(DEVICE == "cuda" and not torch.cuda.is_available(), reason="needs CUDA"),
]
ON_CUDA = pytest.mark.skipif(DEVICE != "cuda", reason="of CUDA alone")


def on_device(name, dtype=torch.float32):
    """A model of the zoo, moved."""
    hf = copy.deepcopy(model(name).hf).to(DEVICE, dtype)
    return kvlens.LanguageModel.wrap(hf, byte_tokenizer(), name=f"{name} on {DEVICE}")
