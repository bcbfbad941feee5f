"""Values: what attention modules weigh, of every token, during a pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from kvlens.models.attention_call import AttentionCall
from kvlens.models.cache_argument import NotingCache
from kvlens.models.language_model import LanguageModel
from kvlens.models.turns import Turn

Values = Float[Tensor, "batch n_kv_heads seq_len d_value"]


def watch_values(
    turn: Turn, lm: LanguageModel, layers: Sequence[int], keep: Callable[[int, Values], None]
) -> None:
    """Have every pass through the raw model tell its values, for the time of a turn.

    Args:
        turn: on the model.
        lm: the model.
        layers: block indices that have keys and values.
        keep: called with a layer and its values.
    """

    def before_attention(module: Any, args: Any, kwargs: Any, layer: int) -> Any:
        call = AttentionCall.of(module, args, kwargs)
        if lm.anatomy.layers[layer].latent:  # what goes to the cache is not yet a value
            keep(layer, call.key_and_value()[1])
            return args, kwargs
        cache = NotingCache(lambda keys, values: keep(layer, values))
        return (), {**call.arguments, call.cache_name: cache}

    for layer in layers:
        hook = partial(before_attention, layer=layer)
        turn.before(lm.attention(layer), hook, with_kwargs=True)
