"""The check of axes that every test runs with: it reaches the tensor code, and it can fail."""

import builtins
from collections import ChainMap, defaultdict
from importlib import import_module
from inspect import getmembers, isclass, isfunction, unwrap
from types import FunctionType, ModuleType
from typing import get_type_hints

import pytest
import torch
from axes import modules_with_axes, names_axes, says_axes
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import TypeCheckError

from kvlens.texts.batches import batches, position_ids


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


def test_other_wrong_types_are_noticed():
    with pytest.raises(BeartypeCallHintParamViolation, match="batch_tokens"):
        list(batches([], 0, batch_tokens="many"))


@pytest.mark.parametrize("name", modules_with_axes())
def test_every_function_that_says_axes_is_found(name):
    module = import_module(name)
    imported_for_type_checkers = defaultdict(lambda: object)
    names = ChainMap(vars(module), vars(builtins), imported_for_type_checkers)
    for function in functions_of(module):
        hints = get_type_hints(function, localns=names)
        assert names_axes(function) or not any(map(says_axes, hints.values()))


def functions_of(module: ModuleType) -> list[FunctionType]:
    """Its own functions and methods, without what wraps them."""
    classes = [each for _, each in getmembers(module, isclass)]
    owners = [module, *(each for each in classes if each.__module__ == module.__name__)]
    found = [unwrap(each) for owner in owners for _, each in getmembers(owner, isfunction)]
    return [each for each in found if each.__module__ == module.__name__]
