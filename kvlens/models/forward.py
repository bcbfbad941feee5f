"""Forward: the raw base model on a padded batch, and the refusal of numbers that broke in it.

It knows no hook, no re-routing and no pooling.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from kvlens.models.info import ModelInfo
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch


def run_base(lm: LanguageModel, batch: TokenBatch, **options: Any) -> Any:
    """Run the raw base model, without its LM head, on a batch, in a turn of its own or around it.

    Args:
        lm: the model.
        batch: padded on either side.
        **options: further arguments of the model; `use_cache` is False unless given.

    Returns:
        What transformers returns: ``last_hidden_state`` is ``[batch, seq_len, d_model]``, after
        the final norm.

    Raises:
        InputError: for a model in train mode.
    """
    # Under right padding no real token sees padding, so the causal kernel needs no mask.
    mask = None if bool(batch.mask[:, 0].all()) else batch.mask
    options = {"use_cache": False, **options}
    with lm.turn():
        return lm.base(batch.ids, attention_mask=mask, position_ids=batch.positions, **options)


def finite_or_refuse(states: Shaped[Tensor, "*shape"], what: str, info: ModelInfo) -> None:
    """Refuse NaN and infinity.

    Args:
        states: numbers that came out of the model, of any dtype and shape.
        what: they are, for the message, such as "hidden of layer 3" or "the embeddings".
        info: the model.

    Raises:
        InputError: when there is NaN or infinity among `states`.
    """
    if bool(torch.isfinite(states).all()):
        return
    advice = 'try `dtype="float32"`'
    if info.dtype == "float32":
        advice = "the weights themselves may be damaged"
    raise InputError(f"NaN or infinity in {what} in {info.dtype} ({info.name}): {advice}")


class SeveralStreams(InputError):
    """A block gives several streams of hidden states, as those of Gemma 3n do."""


def is_one_stream(states: Shaped[Tensor, "*shape"], info: ModelInfo) -> bool:
    """Whether what a block gives is one hidden state a token.

    Args:
        states: that came out of the block.
        info: the model.
    """
    return states.ndim == 3 and states.shape[-1] == info.d_model


def hidden_or_refuse(states: Shaped[Tensor, "*shape"], layer: int, info: ModelInfo) -> None:
    """Refuse what a block gives beside one hidden state a token.

    Args:
        states: that came out of the block.
        layer: its index, for the message.
        info: the model.

    Raises:
        SeveralStreams: (an `InputError`) for anything else.
    """
    if not is_one_stream(states, info):
        raise SeveralStreams(
            f"layer {layer} of {info.name} gives states {list(states.shape)}, "
            "not [batch, seq_len, d_model]: there is no one hidden state a token"
        )
