"""LanguageModel: one set of weights, a tokenizer and two module trees.

How a name becomes one is `loading`'s; how a block is found `anatomy`'s.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from kvlens.models.anatomy import Anatomy, blocks_of, decoder_of
from kvlens.models.attention_call import Attended, AttentionCall
from kvlens.models.bridge import bridge_over, firing_hooks, point_names
from kvlens.models.capture_hooks import remove_capture_hooks
from kvlens.models.dispatched import bring_back, input_device
from kvlens.models.dissection import calls_at_origin
from kvlens.models.identity import info_of
from kvlens.models.info import ModelInfo
from kvlens.models.kind import refuse_other_than_decoder
from kvlens.models.quantized import dtype_name
from kvlens.models.registered import anatomy_of
from kvlens.models.rotary_tables import Tables
from kvlens.models.turns import Purpose, Turn, turn_on
from kvlens.store.checking import a
from kvlens.texts.batches import position_ids

Tree = Literal["raw", "bridge"]
"""One of the two module trees of a model."""


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A decoder-only LLM with its tokenizer.

    ::

        hf                            bridge
        raw transformers              TransformerLens, built on first use
        fused attention: encoding     eager attention, every hook point: analysis
        |-- base                      |-- embed
        |   |-- blocks[0]             |-- blocks[0]
        |   |   `-- attention         |   `-- attn
        |   |-- blocks[1] ...         |-- blocks[1] ...
        |   `-- final norm            |-- ln_final
        `-- LM head                   `-- unembed

    Both trees hold the SAME parameter tensors; there are two, since a bridge rewrites the tree
    that it is given. Calling the object runs `hf` and returns logits.

    Threads may share a model: everything in kvlens takes a turn on it. A pass of your own through
    `hf`, `base` or `bridge` takes one by ``with lm.turn():``.

    Attributes:
        hf: the raw transformers causal LM, in eval mode, parameters without grad.
        tokenizer: a tokenizer of transformers.
        info: what identifies the model, and its shapes.
        anatomy: its blocks.
    """

    hf: Any
    tokenizer: Any
    info: ModelInfo
    anatomy: Anatomy
    _built: list[Any] = field(default_factory=list, init=False, repr=False)  # the bridge, or none
    _live: list[frozenset[str]] = field(default_factory=list, init=False, repr=False)
    _as_cached: dict[int, bool] = field(default_factory=dict, init=False, repr=False)
    _origin: list[dict[int, AttentionCall]] = field(default_factory=list, init=False, repr=False)

    @classmethod
    def wrap(
        cls, hf: Any, tokenizer: Any, name: str = "custom", revision: str = ""
    ) -> LanguageModel:
        """Wrap a transformers causal LM that is loaded already, or was built from a config.

        Args:
            hf: the model; it is put into eval mode and its parameters lose their grad.
            tokenizer: that goes with it.
            name: of the model in results and messages.
            revision: default a hash of its weights.

        Returns:
            The wrapped model.

        Raises:
            InputError: when it is no decoder-only language model, or has no keys and values.
        """
        refuse_other_than_decoder(hf.config, name)
        hf = hf.eval().requires_grad_(False)
        if not hf.config.architectures:
            hf.config.architectures = [type(hf).__name__]
        bring_back(decoder_of(hf))
        anatomy = anatomy_of(hf, name)
        return cls(hf, tokenizer, info_of(hf, anatomy, tokenizer, name, revision), anatomy)

    def as_it_is_now(self) -> LanguageModel:
        """The same model, after its weights were moved or cast: `info` says where they are.

        What was found by running it (its bridge, its hooks) is found again when it is asked for.
        """
        device = str(input_device(self.hf))
        told = {"device": device, "dtype": dtype_name(self.hf)}
        return LanguageModel(
            self.hf, self.tokenizer, self.info.model_copy(update=told), self.anatomy
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, deep or pickled, has the parts that were given, and finds the others again."""
        with self.turn():
            remove_capture_hooks(self.hf)
        return LanguageModel, (self.hf, self.tokenizer, self.info, self.anatomy)

    def turn(self, purpose: Purpose = "pass") -> AbstractContextManager[Turn]:
        """A context in which this thread alone runs the model, see `turns.turn_on`."""
        return turn_on(self.hf, self.info.name, purpose)

    @property
    def bridge(self) -> Any:
        """The `TransformerBridge`; raises InputError where TransformerLens has none."""
        if not self._built:
            with self.turn():
                if not self._built:  # by the thread that was waited for
                    self._built.append(bridge_over(self.hf, self.info.name))
        return self._built[0]

    @property
    def has_bridge(self) -> bool:
        """Whether the bridge is built already."""
        return bool(self._built)

    @property
    def live_hooks(self) -> frozenset[str]:
        """Names of the bridge's hook points that really fire; see `bridge.BLOCK_POINTS`."""
        if not self._live:
            with self.turn() as turn:
                names = point_names(self.info.n_layers)
                self._live.append(firing_hooks(turn, self.bridge, names, self.device))
        return self._live[0]

    @property
    def base(self) -> Any:
        """The raw decoder without its LM head: hidden states after the final norm."""
        return decoder_of(self.hf)

    @property
    def blocks(self) -> Any:
        """The decoder blocks of `base`, in order; raises InputError where they cannot be told."""
        return blocks_of(self.base, self.info.architecture)

    @property
    def trees(self) -> tuple[Tree, ...]:
        """The module trees that exist."""
        return ("raw", "bridge") if self.has_bridge else ("raw",)

    def decoder(self, tree: Tree) -> Any:
        """The decoder of a module tree; that of the bridge is built here."""
        return self.base if tree == "raw" else decoder_of(self.bridge.original_model)

    def attention(self, layer: int, tree: Tree = "raw") -> Any:
        """The attention module of a layer that has keys, in one of the module trees."""
        if tree == "bridge":
            return self.bridge.blocks[layer].attn
        return self.blocks[layer].get_submodule(self.anatomy.layers[layer].attention)

    def origin_tables(self, layer: int) -> Tables | None:
        """The rotary tables of position 0 in a layer; None where it is given none."""
        return self._at_origin(layer).tables

    def sink_logits(self, layer: int) -> Float[Tensor, " n_heads"] | None:
        """The learned logit of each query head that takes weight from all keys, where it has one.

        Args:
            layer: that has keys.

        Returns:
            The logits, or None.
        """
        if not self.anatomy.layers[layer].sink:
            return None
        with self.turn():
            attended = self._at_origin(layer).attended()
        return None if attended is None else attended.options.get("s_aux")

    def attends_as_cached(self, layer: int) -> bool:
        """Whether queries meet, head by head, the keys and values that a layer puts into a cache.

        Not so where a module attends by itself, expands what it caches, or shares out its values.
        """
        if layer not in self._as_cached:
            with self.turn():
                call = self._at_origin(layer)
                self._as_cached[layer] = _meets_what_it_caches(call.attended(), call.cached())
        return self._as_cached[layer]

    def _at_origin(self, layer: int) -> AttentionCall:
        """The call of a layer's attention module with one token at position 0."""
        if not self._origin:
            self._origin.append(calls_at_origin(self.hf, self.anatomy, self.info.name))
        return self._origin[0][layer]

    @property
    def device(self) -> torch.device:
        """Where the model takes its ids, and gives its states."""
        return input_device(self.hf)

    def __call__(
        self,
        input_ids: Int[Tensor, "batch seq_len"],
        attention_mask: Shaped[Tensor, "batch seq_len"] | None = None,
        **options: Any,
    ) -> Float[Tensor, "batch kept vocab"]:
        """Run `hf`.

        Args:
            input_ids: padded on either side.
            attention_mask: 1 on real tokens; default: all are.
            **options: further arguments of the model.

        Returns:
            The logits, of every position unless `options` say otherwise.

        Raises:
            InputError: for a model in train mode.
        """
        if attention_mask is not None and "position_ids" not in options:
            options["position_ids"] = position_ids(attention_mask)
        with self.turn(), torch.no_grad():
            output = self.hf(input_ids, attention_mask=attention_mask, use_cache=False, **options)
        return output.logits


def _meets_what_it_caches(attended: Attended | None, cached: tuple[Tensor, Tensor] | None) -> bool:
    if attended is None or attended.query is None or cached is None:
        return False
    return torch.equal(attended.key, cached[0]) and torch.equal(attended.value, cached[1])


a_model = a(LanguageModel, "a model of `kvlens.load`")
"""The check of a parameter that is a model."""
