"""Re-routing by brute force in float64: one text, no padding, no code of kvlens.

A copy of the model in float64 runs with an attention function of our own, which puts the last
position's key and value in front, computes every score and takes the softmax. What a position sees
is the mask that transformers makes for such a function. Attention that asks for no such function
is reached another way: its mask is edited, see `edited`.
"""

import functools
import inspect
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from families import build
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

NAME = "family_oracle"
CACHES = ("past_key_values", "layer_past")


@dataclass(frozen=True)
class Controls:
    """What differs from the final token's own key and value, seen by all.

    Attributes:
        heads: layer -> query heads that see the prefix; others: all.
        n_heads: query heads of a layer.
        blind: queries that do not see it.
        source: index of the token that it comes from; None: the mean of all.
        columns: how many tokens a probe query chooses in place of `source`; 0: none.
        keys: layer -> unrotated key ``[n_kv_heads, d]``, NaN where it is the source's own.
        values: layer -> value, the same.
    """

    heads: dict[int, tuple[int, ...]] = field(default_factory=dict)
    n_heads: int = 1
    blind: tuple[int, ...] = ()
    source: int | None = -1
    columns: int = 0
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)


@dataclass
class Pass:
    """The pass that runs.

    Attributes:
        biases: re-routed layer -> bias.
        position: of the prefix: ``keep``, ``origin`` or ``none``.
        controls: of the prefix.
        rotation: layer -> which dimensions turn together, how many, and from which on.
        tables: cosines and sines that the attention module was given, or None.
        unrotated: keys of all tokens that were made again without rotation, or None.
        asking: queries, the same.
        recoded: keys of all tokens that were made again at the position of the prefix, or None.
        layer: the block that runs.
        asked: modules that asked for our function, by layer.
        replayed: what is being made again, if anything, see `replay`.
        key: which came out ``[1, n_kv_heads, 1, d_head]``.
    """

    biases: dict[int, float] = field(default_factory=dict)
    position: str = "keep"
    controls: Controls = Controls()
    rotation: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    tables: Any = None
    unrotated: Tensor | None = None
    asking: Tensor | None = None
    recoded: Tensor | None = None
    layer: int = -1
    asked: dict[int, list[Any]] = field(default_factory=dict)
    replayed: str = ""
    key: Tensor | None = None


running = Pass()


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    indices: Tensor | None = None,
    **unused: Any,
) -> tuple[Tensor, Tensor]:
    """An attention function of transformers: ``[batch, heads, seq_len, d_head]`` each."""
    if running.replayed == "token":
        running.key = key
    elif running.replayed == "recoded":
        running.recoded = key
    elif running.replayed:
        running.unrotated = key
        running.asking = query
    running.asked.setdefault(running.layer, []).append(module)
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = logits(query, key, scaling, softcap)
    values = repeated(value, query).double()
    seen = additive(attention_mask, scores.shape[-2:])
    if indices is not None:  # sparse attention's choice of keys
        chosen = torch.zeros_like(scores[:, 0], dtype=torch.bool).scatter(-1, indices.long(), True)
        seen = seen.masked_fill(~chosen[:, None], -math.inf)
    columns = scores + seen
    if running.layer in running.biases and not running.replayed:
        prefix_key, prefix_value = prefix(key, value, query)
        # What the mask adds to the last key is what the last position sees of itself.
        added = torch.nan_to_num(seen[..., -1:, -1:], neginf=0.0)
        bias = running.biases[running.layer] + hidden_from(query.shape[1], query.shape[2])
        column = logits(query, prefix_key, scaling, softcap) + added + bias
        columns = torch.cat([column, columns], dim=-1)
        values = torch.cat([repeated(prefix_value, query).double(), values], dim=2)
    weights = with_sink(columns, s_aux).softmax(-1)[..., : columns.shape[-1]]
    return (weights @ values).to(value.dtype).transpose(1, 2).contiguous(), weights


def prefix(key: Tensor, value: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
    """The keys and values in front ``[1, n_kv_heads, columns, d]``, before they meet queries."""
    controls = running.controls
    if controls.columns:
        unrotated = key if running.unrotated is None else running.unrotated
        asking = query if running.asking is None else running.asking
        recoded = key if running.recoded is None else running.recoded
        chosen = probed(asking[0].double(), unrotated[0].double(), controls.columns)
        own_key, own_value = (of_places(states, chosen) for states in (recoded, value))
    elif controls.source is None:
        unrotated = key if running.unrotated is None else running.unrotated
        own_key = rotated(unrotated.double().mean(2, keepdim=True))
        own_value = value.double().mean(2, keepdim=True)
    else:
        place = controls.source % key.shape[2]
        own_key = key[:, :, place : place + 1] if running.position == "keep" else running.key
        own_value = value[:, :, place : place + 1]
    own_key, own_value = own_key.double(), own_value.double()
    if running.layer in controls.keys:
        given = controls.keys[running.layer].double()[None, :, None]
        own_key = torch.where(given.isnan(), own_key, rotated(given))
    if running.layer in controls.values:
        given = controls.values[running.layer].double()[None, :, None]
        own_value = torch.where(given.isnan(), own_value, given)
    return own_key, own_value


def of_places(states: Tensor, chosen: list[list[int]]) -> Tensor:
    """Each head's own tokens."""
    by_head = zip(states[0], chosen, strict=True)
    return torch.stack([of_head[places] for of_head, places in by_head])[None]


def probed(query: Tensor, key: Tensor, n: int) -> list[list[int]]:
    """By KV head the tokens that the query of its most active tokens ranks highest, one by one."""
    length = key.shape[1]
    tokens = list(range(1, length)) or [0]
    per_group = len(query) // len(key)
    chosen = []
    for head, keys in enumerate(key):
        group = query[head * per_group : (head + 1) * per_group]
        side_by_side = torch.stack([group[:, token].flatten() for token in tokens])
        variance = side_by_side.var(0, correction=0)
        distance = (side_by_side - side_by_side.mean(0)) ** 2
        bias = (distance / (variance + variance.mean() / 100)).mean(1)
        weights = bias / bias.sum() if len(tokens) > 1 else torch.ones(1, dtype=torch.float64)
        probe = sum(weight * each for weight, each in zip(weights, side_by_side, strict=True))
        # A repeated token's score, rounded in two ways, is one score.
        score = {
            token: round(float(sum(part @ keys[token] for part in probe.split(keys.shape[1]))), 9)
            for token in tokens
        }
        chosen.append(sorted(tokens, key=lambda token: -score[token])[:n])
    return chosen


def rotated(key: Tensor) -> Tensor:
    """A key ``[1, n_kv_heads, 1, d]`` rotated to the last position, or to the first."""
    how, width, start = running.rotation.get(running.layer, ("none", 0, 0))
    if running.position == "none" or how == "none" or not key.any():
        return key
    place = -1 if running.position == "keep" else 0
    if isinstance(running.tables, Tensor):
        table = running.tables[..., place, :].flatten()
        cos, sin = table.real, table.imag
    else:
        cos, sin = (table[..., place, :].flatten() for table in running.tables)
    half = width // 2
    if len(cos) == width:  # of each dimension
        paired = how == "interleaved" and torch.equal(cos[::2], cos[1::2])
        cos, sin = (table[::2] if paired else table[:half] for table in (cos, sin))
    turning = key[..., start : start + width]
    if how == "half":
        one, two = turning[..., :half], turning[..., half:]
        turned = torch.cat([one * cos - two * sin, two * cos + one * sin], dim=-1)
    else:
        one, two = turning[..., ::2], turning[..., 1::2]
        turned = torch.stack([one * cos - two * sin, two * cos + one * sin], dim=-1).flatten(-2)
    return torch.cat([key[..., :start], turned, key[..., start + width :]], dim=-1)


def hidden_from(n_heads: int, length: int) -> Tensor:
    """Minus infinity ``[1, n_heads, length, 1]`` where the prefix is not seen."""
    hidden = torch.zeros(1, n_heads, length, 1, dtype=torch.float64)
    heads = running.controls.heads.get(running.layer)
    if heads is not None:
        hidden[:, [head for head in range(n_heads) if head not in heads]] = -math.inf
    hidden[:, :, list(running.controls.blind)] = -math.inf
    return hidden


def logits(query: Tensor, key: Tensor, scaling: float, softcap: float | None) -> Tensor:
    scores = query.double() @ repeated(key, query).double().mT * scaling
    return scores if softcap is None else softcap * torch.tanh(scores / softcap)


def repeated(states: Tensor, query: Tensor) -> Tensor:
    """Keys or values, one a query head."""
    return states.repeat_interleave(query.shape[1] // states.shape[1], dim=1)


def additive(mask: Tensor | None, shape: tuple[int, int]) -> Tensor:
    """A mask to be added; none is the causal one."""
    if mask is None:
        mask = torch.ones(shape, dtype=torch.bool).tril()[None, None]
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, -math.inf)
    lowest = torch.finfo(mask.dtype).min
    return mask.double().masked_fill(mask <= lowest / 2, -math.inf)


def with_sink(columns: Tensor, sink: Tensor | None) -> Tensor:
    """One more column, of a learned logit, that takes weight and gives no value."""
    if sink is None:
        return columns
    column = sink.double().reshape(1, -1, 1, 1).expand(*columns.shape[:-1], 1)
    return torch.cat([columns, column], dim=-1)


def dense_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    return sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, dense_mask)


def replay(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """A hook of an attention module: the last token's key, made again at another position.

    The module runs on that token alone, with the rotary tables of the first one, or with those of
    no rotation.
    """
    if running.layer not in running.biases:
        return
    call = {**dict(zip(inspect.signature(module.forward).parameters, args, strict=False)), **kwargs}
    running.tables = call.get("position_embeddings")
    running.unrotated = running.asking = running.recoded = None
    source = running.controls.source
    if running.controls.columns:
        run_again(module, everywhere(call, "none"), "still")
        if running.position != "keep":
            run_again(module, everywhere(call, running.position), "recoded")
        return
    if source is None and running.tables is not None:
        still = unrotating(running.tables)
        run_again(module, {**call, "position_embeddings": still}, "still")
    if running.position == "keep" or source is None:
        return
    place = source % call["hidden_states"].shape[1]
    call["hidden_states"] = call["hidden_states"][:, place : place + 1]
    if isinstance(call.get("attention_mask"), Tensor):
        call["attention_mask"] = call["attention_mask"][..., -1:, -1:]
    if call.get("position_ids") is not None:
        call["position_ids"] = call["position_ids"][..., :1]
    if call.get("position_embeddings") is not None:
        call["position_embeddings"] = at_first(call["position_embeddings"])
    run_again(module, call, "token")


def everywhere(call: dict[str, Any], position: str) -> dict[str, Any]:
    """The call with all tokens at the first position, or not rotated."""
    changed = dict(call)
    tables = call.get("position_embeddings")
    if tables is not None and position == "none":
        changed["position_embeddings"] = unrotating(tables)
    elif tables is not None:
        first = at_first(tables)
        changed["position_embeddings"] = (
            first.expand_as(tables)
            if isinstance(tables, Tensor)
            else tuple(one.expand_as(table) for one, table in zip(first, tables, strict=True))
        )
    if call.get("position_ids") is not None:
        changed["position_ids"] = torch.zeros_like(call["position_ids"])
    return changed


def run_again(module: Any, call: dict[str, Any], what: str) -> None:
    running.replayed = what
    module.forward(**call)
    running.replayed = ""


def unrotating(tables: Any) -> Any:
    """Cosines of one and sines of zero, of all positions."""
    if isinstance(tables, Tensor):
        return torch.ones_like(tables)
    return torch.ones_like(tables[0]), 0 * tables[1]


def at_first(tables: Any) -> Any:
    """Cosines and sines, or complex numbers, of the first position ``[1, 1, d]``, or unrotated."""
    if isinstance(tables, Tensor):
        return tables[:, :1] if running.position == "origin" else torch.ones_like(tables[:, :1])
    cos, sin = (table[..., :1, :] for table in tables)
    return (cos, sin) if running.position == "origin" else (torch.ones_like(cos), 0 * sin)


def edited(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A hook of an attention module: the prefix as the last token's own column, made visible.

    The bias b is added at (i, last) for i < last, and log(1 + e^b) at (last, last), where prefix
    and column are one. With its key elsewhere the prefix is one more token, a copy of the last one.
    """
    states = kwargs.get("hidden_states", args[0] if args else None)
    length = states.shape[1]
    mask = kwargs.get("attention_mask")
    by_position = kwargs.get("position_bias")
    if by_position is not None and mask is not None:  # MPT's mask tells what is hidden
        mask = ~mask
    mask = additive(mask, (length, length)) + own_mask(module, length)
    if running.layer in running.biases:
        bias = running.biases[running.layer]
        if running.position != "keep":
            args, kwargs = with_copy(args, kwargs, length)
            mask = torch.cat([mask, mask[..., -1:, :]], dim=-2)
            mask = torch.cat([mask, torch.full_like(mask[..., :1], bias)], dim=-1)
        else:
            mask = with_visible_column(mask, bias)
    if type(module).__name__ == "CodeGenAttention":  # which adds the mask before it divides
        mask = mask * float(module.scale_attn)
    mask = mask.clamp(min=torch.finfo(torch.float64).min)
    if by_position is not None:
        by_position = by_position[..., -length:] + mask[0]
        return args, {**kwargs, "attention_mask": None, "position_bias": by_position}
    return args, {**kwargs, "attention_mask": mask}


def with_visible_column(mask: Tensor, bias: float) -> Tensor:
    """The mask with the source's column visible to all that see the prefix."""
    length = mask.shape[-1]
    place = running.controls.source % length
    heads = running.controls.heads
    n_heads = running.controls.n_heads if running.layer in heads else 1
    mask = mask.expand(-1, n_heads, -1, -1).clone()
    seen = hidden_from(n_heads, length)[..., 0].isfinite()
    column = mask[..., place]
    mask[..., place] = torch.where(seen, torch.logaddexp(column, torch.tensor(bias)), column)
    return mask


def with_copy(args: tuple[Any, ...], kwargs: dict[str, Any], length: int) -> Any:
    """Arguments of an attention module, the last token's copy at position 0 behind them."""

    def extended(value: Any, dim: int, at: int) -> Any:
        return torch.cat([value, value.narrow(dim, at, 1)], dim=dim)

    if args:
        args = (extended(args[0], 1, length - 1), *args[1:])
    more = {}
    if "hidden_states" in kwargs:
        more["hidden_states"] = extended(kwargs["hidden_states"], 1, length - 1)
    if kwargs.get("position_ids") is not None:
        more["position_ids"] = extended(kwargs["position_ids"], 1, 0)
    if kwargs.get("position_embeddings") is not None:
        more["position_embeddings"] = tuple(
            extended(table, -2, 0) for table in kwargs["position_embeddings"]
        )
    return args, {**kwargs, **more}


def without_copy(module: Any, args: tuple[Any, ...], kwargs: Any, output: Any) -> Any:
    """A hook after an attention module: what it says of the text's own tokens."""
    if running.position == "keep" or running.layer not in running.biases:
        return output
    first, *rest = output if isinstance(output, tuple) else (output,)
    cut = first[:, :-1]
    return (cut, *rest) if isinstance(output, tuple) else cut


def own_mask(module: Any, length: int) -> Tensor:
    """What a module hides by a table of its own, as GPT-Neo's; it is hidden here instead."""
    table = getattr(module, "bias", None)
    if table is None or table.dtype != torch.bool:
        return torch.zeros(1, 1, length, length, dtype=torch.float64)
    if not hasattr(module, "hidden_here"):
        module.hidden_here = table.clone()
        table.fill_(True)
    return additive(module.hidden_here[..., :length, :length], (length, length))


@dataclass(frozen=True)
class Oracle:
    """A family in float64.

    Attributes:
        decoder: of its text, without a head.
        way: how it is re-routed: by ``concatenation``, or by a ``mask edit``.
        layers: those that can be.
    """

    decoder: Any
    way: str
    layers: frozenset[int]

    def states(
        self,
        row: Tensor,
        biases: dict[int, float],
        position: str = "keep",
        controls: Controls = Controls(),
        rotation: dict[int, tuple[str, int, int]] | None = None,
    ) -> Tensor:
        """The final hidden states ``[seq_len, d]`` of one text; biases: layer -> bias."""
        if not set(biases) <= self.layers:
            raise ValueError(f"no oracle for layers {set(biases) - self.layers}")
        running.controls = controls
        running.rotation = rotation or {}
        try:
            return run(self.decoder, row, biases, position)
        finally:
            running.controls = Controls()


@functools.cache
def oracle(name: str) -> Oracle:
    """The oracle of a family."""
    model = build(name).double()
    if model._can_set_experts_implementation():
        model.set_experts_implementation("eager")  # the grouped one has no float64
    decoder = decoder_of(model)
    blocks = blocks_of(decoder)
    for layer, block in enumerate(blocks):
        block.register_forward_pre_hook(functools.partial(note, layer))
    model.set_attn_implementation(NAME)
    run(decoder, torch.tensor([5, 6]), {})
    if running.asked:
        modules = [module for called in running.asked.values() for module in called]
        for module in {id(module): module for module in modules}.values():
            module.register_forward_pre_hook(replay, with_kwargs=True)
        return Oracle(decoder, "concatenation", frozenset(running.asked))
    model.set_attn_implementation("eager")
    attention = {layer: attention_of(block) for layer, block in enumerate(blocks)}
    found = {layer: module for layer, module in attention.items() if module is not None}
    for module in found.values():
        module.register_forward_pre_hook(edited, with_kwargs=True)
        module.register_forward_hook(without_copy, with_kwargs=True)
    return Oracle(decoder, "mask edit", frozenset(found))


def run(decoder: Any, row: Tensor, biases: dict[int, float], position: str = "keep") -> Tensor:
    running.biases = biases
    running.position = position
    running.layer = -1
    running.asked = {}
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad():
            return decoder(row[None], use_cache=False).last_hidden_state[0].double()
    finally:
        torch.set_default_dtype(torch.float32)


def note(layer: int, module: Any, args: Any) -> None:
    running.layer = layer


def decoder_of(model: Any) -> Any:
    """The text's decoder without its head, which some models give with it."""
    decoder = model.get_decoder()
    if hasattr(decoder, "lm_head"):
        return decoder.model
    return decoder if any(decoder.children()) else model.base_model


def blocks_of(decoder: Any) -> Any:
    """The longest list of modules right below a decoder."""
    lists = [child for child in decoder.children() if isinstance(child, torch.nn.ModuleList)]
    return max(lists, key=len)


def attention_of(block: Any) -> Any:
    """The deepest module of a block that takes a mask and a KV cache; None: it has none."""
    deepest = None
    for name, module in block.named_modules():
        parameters = inspect.signature(module.forward).parameters
        caches = any(cache in parameters for cache in CACHES)
        if name and caches and "attention_mask" in parameters:
            deepest = module
    return deepest
