"""Dissection: a model's anatomy, found by a pass of a few tokens through its modules.

An attention module is the deepest one of a block that takes a KV cache and puts keys there. How it
rotates is seen by giving it other rotary tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from kvlens.models.anatomy import (
    Anatomy,
    Kind,
    LayerAnatomy,
    Rotation,
    blocks_of,
    decoder_of,
)
from kvlens.models.attention_call import Attended, AttentionCall
from kvlens.models.cache_argument import cache_name_of
from kvlens.models.dispatched import input_device
from kvlens.models.rotary_tables import turned_tables, turning_part
from kvlens.models.turns import Turn, turn_on
from kvlens.store.errors import InputError, one_line, shortened

IDS = (1, 2, 3, 4)  # several, since the padding token may be embedded as zeros
TOLERANCE = 1e-2  # of the length of a pair of dimensions, in the coarsest dtype

# What configs call the kinds of blocks.
KIND_OF_NAME: dict[str, Kind] = {
    "full_attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
}
WORDS_OF_KIND: dict[Kind, tuple[str, ...]] = {
    "linear": ("linear_", "mamba", "delta", "recurrent", "lightning", "ssm", "rwkv"),
    "convolution": ("conv",),
}

Norms = dict[str, tuple[Tensor, Tensor]]
"""Path of a norm in a block -> what it was last given, and what it made of it."""


def dissect(hf: Any, name: str) -> Anatomy:
    """Find a model's anatomy.

    Args:
        hf: a transformers causal LM in eval mode.
        name: of the model, for messages.

    Returns:
        Its blocks.

    Raises:
        InputError: for a model whose blocks cannot be told, that does not run on text alone, and
            without any keys.
    """
    blocks = blocks_of(decoder_of(hf), type(hf).__name__)
    config = hf.config.get_text_config()
    with torch.inference_mode(), turn_on(hf, name, "measurement") as turn:
        found = [_Block(layer, block, config) for layer, block in enumerate(blocks)]
        for each in found:
            each.watch(turn)
        states = _run(hf, name, IDS)
        anatomy = Anatomy(tuple(each.anatomy() for each in found))
    if not anatomy.key_layers:
        raise InputError(
            f"{name} is a {type(hf).__name__}, whose blocks put no keys and values into a KV cache "
            "as kvlens knows it"
        )
    _refuse_foresight(hf, name, states)
    return anatomy


def _refuse_foresight(hf: Any, name: str, states: Tensor) -> None:
    """Raise InputError where other tokens at the end change the states of those before."""
    with torch.inference_mode(), turn_on(hf, name, "measurement"):
        others = _run(hf, name, (*IDS[:-1], IDS[0]))
    before = states[:, :-1]
    difference = (before - others[:, :-1]).abs().max()
    if difference > TOLERANCE * before.abs().max():  # NaN is refused where it is used
        raise InputError(
            f"{name} is a {type(hf).__name__}, in which a token sees those after it: "
            "kvlens reads causal language models"
        )


def calls_at_origin(hf: Any, anatomy: Anatomy, name: str) -> dict[int, AttentionCall]:
    """Layer -> the call of its attention module with one token at position 0.

    Args:
        hf: a transformers causal LM in eval mode.
        anatomy: of it.
        name: of the model, for messages.

    Returns:
        Calls of the blocks that have keys.
    """
    blocks = blocks_of(decoder_of(hf), type(hf).__name__)
    calls: dict[int, AttentionCall] = {}

    def note(module: Any, args: Any, kwargs: Any, layer: int) -> None:
        calls[layer] = AttentionCall.of(module, args, kwargs)

    with torch.inference_mode(), turn_on(hf, name) as turn:
        for layer in anatomy.key_layers:
            attention = blocks[layer].get_submodule(anatomy.layers[layer].attention)
            turn.before(attention, partial(note, layer=layer), with_kwargs=True)
        _run(hf, name, IDS[:1])
    return calls


def _run(hf: Any, name: str, ids: Sequence[int]) -> Float[Tensor, "1 seq_len d_model"]:
    """Run the decoder on one text; its states after the final norm."""
    try:
        output = decoder_of(hf)(torch.tensor([ids], device=input_device(hf)), use_cache=False)
    except InputError:
        raise
    except Exception as error:  # whatever a model of others raises
        message = f"{name} does not run on {len(ids)} tokens of text: {one_line(error)}"
        raise InputError(shortened(message)) from error
    return output.last_hidden_state


@dataclass
class _Block:
    """A block under examination.

    Attributes:
        layer: its index.
        block: itself.
        config: of the text model.
        calls: path -> call of a module that takes a KV cache.
        norms: what went through its norms last.
    """

    layer: int
    block: Module
    config: Any
    calls: dict[str, AttentionCall] = field(default_factory=dict)
    norms: Norms = field(default_factory=dict)

    def watch(self, turn: Turn) -> None:
        """Note what is called in it, for the time of a turn."""
        for path, module in self.block.named_modules():
            if path and cache_name_of(module):
                turn.before(module, partial(self._on_call, path=path), with_kwargs=True)
            elif "norm" in path.rpartition(".")[2]:
                turn.after(module, partial(self._on_norm, path=path))

    def _on_call(self, module: Any, args: Any, kwargs: Any, path: str) -> None:
        self.calls[path] = AttentionCall.of(module, args, kwargs)

    def _on_norm(self, module: Any, args: Any, output: Any, path: str) -> None:
        if args and isinstance(output, Tensor):
            self.norms[path] = (args[0], output)

    def anatomy(self) -> LayerAnatomy:
        """What it is."""
        found: dict[str, LayerAnatomy] = {}
        for path in sorted(self.calls, key=lambda path: -path.count(".")):
            if any(inner.startswith(f"{path}.") for inner in found):
                continue  # it hands on what it is given
            cached = self.calls[path].cached()
            attended = self.calls[path].attended()
            if cached is not None:
                of_cache = Attended.of_cache(*cached)
                found[path] = self._of_attention(path, attended or of_cache, cached)
            elif attended is not None:
                found[path] = self._of_attention(path, attended, None)
        if len(found) > 1:
            raise InputError(
                f"block {self.layer} has {len(found)} attention modules ({', '.join(found)}): "
                "kvlens reads models with one a block"
            )
        return next(iter(found.values()), LayerAnatomy(self.layer, self._kind_without_keys()))

    def _of_attention(
        self, path: str, attended: Attended, cached: tuple[Tensor, Tensor] | None
    ) -> LayerAnatomy:
        call = self.calls[path]
        key_norm = self._key_norm(call)
        rotation, rotary_dim, rotary_start = self._rotation(call, key_norm)
        return LayerAnatomy(
            layer=self.layer,
            kind=self._kind(call.module, attended),
            attention=path,
            n_heads=self._n_heads(attended),
            n_kv_heads=attended.key.shape[1],
            d_key=attended.key.shape[-1],
            d_value=attended.value.shape[-1],
            rotation=rotation,
            rotary_dim=rotary_dim,
            rotary_start=rotary_start,
            key_norm=key_norm,
            sink=attended.options.get("s_aux") is not None,
            soft_cap=attended.options.get("softcap"),
            latent=cached is not None and cached[1].shape != attended.value.shape,
            takes_cache=cached is not None,
            shares=self._shares(call.module),
        )

    def _shares(self, module: Any) -> Literal["none", "stores", "reads"]:
        """Whether its keys are for other blocks, or theirs, as Gemma 3n and 4 say it."""
        if getattr(module, "is_kv_shared_layer", False):
            return "reads"
        return "stores" if getattr(module, "store_full_length_kv", False) else "none"

    def _n_heads(self, attended: Attended) -> int:
        """Query heads; the config's where only the cache was seen."""
        if attended.query is None:
            return self.config.num_attention_heads
        return attended.query.shape[1]

    @property
    def _named_kind(self) -> str:
        """What the config calls it."""
        names = getattr(self.config, "layer_types", None) or ()
        return names[self.layer] if self.layer < len(names) else ""

    def _kind(self, module: Any, attended: Attended) -> Kind:
        if self._named_kind in KIND_OF_NAME:
            return KIND_OF_NAME[self._named_kind]
        window = attended.options.get("sliding_window") or getattr(module, "sliding_window", None)
        return "sliding" if window else "full"

    def _kind_without_keys(self) -> Kind:
        classes = [type(child).__name__ for child in self.block.children()]
        text = " ".join([self._named_kind, *classes]).lower()
        for kind, words in WORDS_OF_KIND.items():
            if any(word in text for word in words):
                return kind
        return "none"

    def _key_norm(self, call: AttentionCall) -> Literal["none", "before", "after"]:
        """Whether a norm's output is the key, before or after its rotation."""
        outputs = [output for _, output in self.norms.values()]
        still = call.at("none", None).key_and_value()[0]
        if any(_same_numbers(output, still) for output in outputs):
            return "before"
        if any(_same_numbers(output, call.key_and_value()[0]) for output in outputs):
            return "after"
        return "none"

    def _rotation(self, call: AttentionCall, key_norm: str) -> tuple[Rotation, int, int]:
        """Which dimensions of a key turn together, how many do, and from which on."""
        still = self._unnormed(call.at("none", None), key_norm)
        turned = self._unnormed(_quarter_turn(call), key_norm)
        (moved,) = torch.nonzero((still != turned).flatten(0, -2).any(0), as_tuple=True)
        if not len(moved):
            return "none", 0, 0
        turning = turning_part(moved, call.tables, still.shape[-1])
        width, start = turning.stop - turning.start, turning.start
        before, after = still[..., turning], turned[..., turning]
        if _same_lengths(before.unflatten(-1, (2, -1)), after.unflatten(-1, (2, -1)), -2):
            return "half", width, start
        if _same_lengths(before.unflatten(-1, (-1, 2)), after.unflatten(-1, (-1, 2)), -1):
            return "interleaved", width, start
        return "other", width, start

    def _unnormed(self, call: AttentionCall, key_norm: str) -> Tensor:
        """The keys; where a norm comes after the rotation, what it is given."""
        keys, _ = call.key_and_value()
        if key_norm != "after":
            return keys
        return next(given for given, output in self.norms.values() if _same_numbers(output, keys))


def _quarter_turn(call: AttentionCall) -> AttentionCall:
    """The call with every pair of dimensions turned by 90 degrees, where that can be asked for."""
    if call.tables is None:
        return call
    return call.with_tables(turned_tables(call.tables, 0.0, 1.0))


def _same_numbers(some: Tensor, others: Tensor) -> bool:
    """Whether two tensors hold the same numbers, in whatever order."""
    if some.numel() != others.numel():
        return False
    return torch.allclose(some.flatten().sort().values, others.flatten().sort().values)


def _same_lengths(
    some: Float[Tensor, "*shape"], others: Float[Tensor, "*shape"], axis: int
) -> bool:
    """Whether the vectors along an axis are as long in both."""
    lengths = some.float().norm(dim=axis)
    return torch.allclose(lengths, others.float().norm(dim=axis), TOLERANCE, TOLERANCE)
