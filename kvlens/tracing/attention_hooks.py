"""Attention hooks: what is read at the attention modules of the raw model alone.

Queries, what enters and leaves the output projection, and keys and values of any token.

The names are those of TransformerLens's hook points: ``q``, ``z``, ``attn_out``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor
from torch.nn import Dropout

from kvlens.models.attention_call import AttentionCall, states_of
from kvlens.models.language_model import LanguageModel
from kvlens.models.turns import Turn
from kvlens.store.errors import InputError
from kvlens.tracing.buffers import Buffers
from kvlens.tracing.request import Request


@dataclass(frozen=True)
class AttentionHooks:
    """The hooks of one attention module of the raw model.

    Attributes:
        lm: the model.
        layer: the block.
        buffers: where the states go.
        passed: what entered and what left the modules inside, by the module's name.
    """

    lm: LanguageModel
    layer: int
    buffers: Buffers
    passed: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def hang(self, turn: Turn, request: Request) -> None:
        """Hang those that bring what is read nowhere else."""
        attention = self.lm.attention(self.layer)
        kinds = request.of_attention
        if request.of_spans:
            on_spans = partial(self._on_spans, kinds=request.of_spans)
            turn.before(attention, on_spans, with_kwargs=True)
        if "q" in kinds:
            turn.before(attention, self._on_call, with_kwargs=True)
        if "attn_out" in kinds:
            turn.after(attention, self._on_output)
        if "z" in kinds:
            for name, module in attention.named_children():
                if not isinstance(module, Dropout):  # it gives back what it is given
                    turn.after(module, partial(self._on_inside, name=name))
            turn.after(attention, self._on_end)

    def _on_spans(self, module: Any, args: Any, kwargs: Any, kinds: frozenset[str]) -> None:
        """Keys and values of all tokens, by the module's call made again."""
        call = AttentionCall.of(self.lm.attention(self.layer), args, kwargs)
        key, value = call.key_and_value()
        states = {"k": key, "v": value}
        if "k_pre" in kinds:
            states["k_pre"] = call.at("none", None).key_and_value()[0]
        for kind in kinds:
            self.buffers.store_spans(kind, self.layer, states[kind])

    def _on_call(self, module: Any, args: Any, kwargs: Any) -> None:
        call = AttentionCall.of(self.lm.attention(self.layer), args, kwargs)
        attended = call.of_tokens(self.buffers.batch.last.to(call.states.device)).attended()
        if attended is None or attended.query is None:
            raise self._refusal("q", "it hands its queries to no attention function")
        self.buffers.store("q", self.layer, attended.query[:, :, 0])

    def _on_output(self, module: Any, args: Any, output: Any) -> None:
        self.buffers.store("attn_out", self.layer, self.buffers.final(states_of(output)))

    def _on_inside(self, module: Any, args: Any, output: Any, name: str) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            self.passed[name] = (args[0], output)

    def _on_end(self, module: Any, args: Any, output: Any) -> None:
        """The module whose output leaves the attention is the output projection."""
        place = states_of(output).data_ptr()
        entered = [before for before, after in self.passed.values() if after.data_ptr() == place]
        self.passed.clear()
        if not entered:
            raise self._refusal("z", "what it gives comes of no module of its own")
        self.buffers.store("z", self.layer, self.buffers.final(entered[-1]))

    def _refusal(self, kind: str, reason: str) -> InputError:
        architecture = self.lm.info.architecture
        return InputError(f"cannot record {kind} of layer {self.layer} of {architecture}: {reason}")
