"""Soundness: whether a model's config and its weights belong together.

Before anything is allocated: the sizes that a config asks for, against those of the weights. Once
loaded: weights that are missing, left over, of another shape or not finite (transformers fills them
at random, with a warning), and a first pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch

from kvlens.models.checkpoint import CONFIG, Checkpoint
from kvlens.models.dispatched import weights_of
from kvlens.models.forward import finite_or_refuse
from kvlens.models.kind import auto_class_of
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError, shortened
from kvlens.texts.prompts import PROMPTS
from kvlens.texts.tokens import tokenize

COUNTED = re.compile(r"(layers?|heads?|experts?|groups?|blocks?|labels)$")  # built one by one
SMALL = 4096  # what is counted may be that many in any model
BUFFERS = 1 << 24  # numbers that a model may hold beside its weights: masks, rotary tables
UNTIED = 2  # a head that shares the embedding's weights is counted twice
PACKED = 16  # numbers in one element of quantized weights
FIRST_TEXT = "a cat"


def refuse_absurd_counts(checkpoint: Checkpoint) -> None:
    """Refuse a config whose counts are out of proportion to the weights.

    Args:
        checkpoint: what the folder holds; nothing is built for it.

    Raises:
        InputError: with the entry.
    """
    sizes = [size for shape in checkpoint.shapes.values() for size in shape]
    most = max(SMALL, len(checkpoint.shapes), *sizes)
    for key, count in _numbers(checkpoint.config):
        if COUNTED.search(key) and abs(count) > most:
            raise InputError(
                shortened(
                    f"{checkpoint.folder / CONFIG}: `{key}` is {count:.3g}, out of proportion to "
                    "the weights: copy the file from the model again"
                )
            )


def _numbers(tree: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """Every number of a config, with its key."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _numbers(value, name)
    elif isinstance(tree, int | float):
        yield key, tree if abs(tree) < 1e300 else 1e300


def refuse_absurd_sizes(config: Any, checkpoint: Checkpoint) -> None:
    """Refuse a model that would be far larger than its weights, before it is allocated.

    Args:
        config: of transformers, of an architecture that it knows.
        checkpoint: where the weights are.

    Raises:
        InputError: with what the config asks for, and what the weights have.
    """
    refuse_too_many_layers(config, len(checkpoint.shapes), str(checkpoint.folder))
    packed = PACKED if checkpoint.is_quantized else UNTIED
    most = packed * checkpoint.n_elements + BUFFERS
    refuse_larger_than(config, most, str(checkpoint.folder))


def refuse_too_many_layers(config: Any, n_tensors: int, what: str) -> None:
    """Refuse a config with more layers than there are tensors.

    Args:
        config: of transformers.
        n_tensors: in the weights.
        what: is loaded, for the message.

    Raises:
        InputError: with both numbers.
    """
    n_layers = getattr(config.get_text_config(), "num_hidden_layers", 0) or 0
    if n_layers > n_tensors:
        raise InputError(
            f"{what}: its config asks for {n_layers} layers, its weights are {n_tensors} tensors"
        )


def refuse_larger_than(config: Any, most: int, what: str) -> None:
    """Refuse a model of more than `most` numbers.

    Args:
        config: of transformers.
        most: numbers in parameters and buffers.
        what: is loaded, for the message.

    Raises:
        InputError: with both numbers.
    """
    with torch.device("meta"):
        model = auto_class_of(config).from_config(config)
    n_numbers = sum(tensor.numel() for tensor in (*model.parameters(), *model.buffers()))
    if n_numbers > most:
        raise InputError(
            f"{what}: its config asks for {n_numbers:.3g} numbers, its weights are for at most "
            f"{most:.3g}: copy the whole model again"
        )


def refuse_other_weights(loading_info: dict[str, Any], what: str) -> None:
    """Refuse a model whose weights are not those of its config.

    Args:
        loading_info: of transformers.
        what: was loaded, for the message.

    Raises:
        InputError: with the first weight that is missing, left over or of another shape.
    """
    mismatched = sorted(map(tuple, loading_info["mismatched_keys"]))
    if mismatched:
        name, in_file, in_model = mismatched[0]
        wrong = f"{name} is {list(in_file)} in the weights and {list(in_model)} by the config"
        raise InputError(shortened(f"{what} does not fit its config: {wrong}"))
    for key, wrong in (("missing_keys", "not in the weights"), ("unexpected_keys", "left over")):
        names = sorted(loading_info[key])
        if names:
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise InputError(
                shortened(f"{what} does not fit its config: {names[0]}{more} is {wrong}")
            )


def refuse_broken_weights(hf: Any, what: str) -> None:
    """Refuse weights with NaN or infinity.

    Args:
        hf: a transformers causal LM.
        what: was loaded, for the message.

    Raises:
        InputError: with the first such weight.
    """
    for name, weight in weights_of(hf):
        if weight.numel() and weight.dtype in (torch.float32, torch.float16, torch.bfloat16):
            lowest, highest = torch.aminmax(weight.detach())
            if not bool(torch.isfinite(lowest) & torch.isfinite(highest)):
                raise InputError(
                    shortened(f"{what} has NaN or infinity in {name}: the weights are damaged")
                )


def refuse_unusable(lm: LanguageModel) -> None:
    """Refuse a model that cannot read a first text, or gives no numbers for it.

    Args:
        lm: the model.

    Raises:
        InputError: when its output is not finite; what it raises itself is left to the caller.
    """
    try:
        text = tokenize(lm.tokenizer, [FIRST_TEXT], PROMPTS["raw"], lm.info.max_positions)[0]
    except InputError as error:
        raise InputError(shortened(f"cannot load {lm.info.name}: {error}")) from error
    logits = lm(torch.tensor([text.ids], device=lm.device))
    finite_or_refuse(logits, "the logits of a first text", lm.info)
