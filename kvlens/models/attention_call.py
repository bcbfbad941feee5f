"""Attention call: one call of an attention module, which can be made again on other tokens.

What is made again goes through the module's own code, so its projections, norms and rotation are
those of the model, whatever they are. A second call ends where its keys are known: what stands in
for the KV cache, or for the attention function, raises.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kvlens.models.cache_argument import CACHE_NAMES, StandIn, cache_name_of, signature_of
from kvlens.models.rotary_tables import Tables, as_many, map_tables, of_tokens, unrotating
from kvlens.store.errors import InputError

STATES = "hidden_states"
MASK = "attention_mask"
TABLES = "position_embeddings"
POSITIONS = "position_ids"
CATCHING = "kvlens_catching"
"""Name of the attention function that only looks at what it is given."""


def states_of(output: Any) -> Float[Tensor, "*batch seq_len d_model"]:
    """The states that a block or an attention module gives back, with or without more."""
    return output[0] if isinstance(output, tuple) else output


@dataclass(frozen=True)
class Attended:
    """What a module gives its attention function.

    Attributes:
        query: ``[batch, n_heads, seq_len, d_key]``, rotated; None where only a cache was seen.
        key: ``[batch, n_kv_heads, seq_len, d_key]``, rotated.
        value: ``[batch, n_kv_heads, seq_len, d_value]``.
        options: the further arguments, such as ``scaling``, ``softcap`` and ``s_aux`` (a sink).
    """

    query: Float[Tensor, "batch n_heads seq_len d_key"] | None
    key: Float[Tensor, "batch n_kv_heads seq_len d_key"]
    value: Float[Tensor, "batch n_kv_heads seq_len d_value"]
    options: Mapping[str, Any]

    @classmethod
    def of_cache(cls, key: Tensor, value: Tensor) -> Attended:
        """What goes to the cache, of a module that attends by itself."""
        return cls(None, key, value, {})


@dataclass(frozen=True)
class AttentionCall:
    """The arguments that an attention module is called with.

    Attributes:
        module: of the raw model.
        arguments: by name.
    """

    module: Any
    arguments: Mapping[str, Any]

    @classmethod
    def of(cls, module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> AttentionCall:
        """The call that a hook on `module`, or on what stands for it in a bridge, has seen."""
        signature = signature_of(type(module).forward)
        bound = signature.bind_partial(module, *args, **kwargs)
        arguments = dict(list(bound.arguments.items())[1:])  # without self
        for name, parameter in signature.parameters.items():
            if parameter.kind is inspect.Parameter.VAR_KEYWORD:
                arguments |= arguments.pop(name, {})
        return cls(module, arguments)

    @cached_property
    def cache_name(self) -> str:
        """What the module calls its KV cache."""
        return cache_name_of(self.module) or CACHE_NAMES[0]

    @property
    def states(self) -> Float[Tensor, "batch seq_len d_model"]:
        """What enters the module."""
        return self.arguments[STATES]

    @property
    def tables(self) -> Tables | None:
        """The rotary tables of its tokens; None where the module is given none.

        Raises:
            InputError: for tables of a form that kvlens does not know.
        """
        tables = self.arguments.get(TABLES)
        parts = tables if isinstance(tables, tuple) and len(tables) == 2 else (tables,)
        if tables is None or all(isinstance(part, Tensor) for part in parts):
            return tables
        raise InputError(f"a {type(self.module).__name__} is given rotary tables of another form")

    def with_tables(self, tables: Tables) -> AttentionCall:
        """The same call with other rotary tables."""
        return AttentionCall(self.module, {**self.arguments, TABLES: tables})

    def of_tokens(self, index: Int[Tensor, " batch"]) -> AttentionCall:
        """The call with one token of each row.

        Args:
            index: its place in the padded row.

        Returns:
            A call of ``[batch, 1, d_model]``, each token at its own position.
        """
        states = self.states
        row = torch.arange(len(states), device=states.device)
        arguments = {**self.arguments, MASK: _mask_of_one(self.arguments.get(MASK))}
        arguments[STATES] = states[row, index][:, None]
        if self.tables is not None:
            arguments[TABLES] = map_tables(lambda table: of_tokens(table, row, index), self.tables)
        if isinstance(self.arguments.get(POSITIONS), Tensor):
            positions = self.arguments[POSITIONS].expand(len(states), -1)
            arguments[POSITIONS] = positions[row, index][:, None]
        return AttentionCall(self.module, arguments)

    def of_states(self, states: Float[Tensor, "n d_model"]) -> AttentionCall:
        """The call of one token a row with other states in its place, all where it stands.

        Args:
            states: what would enter the module.

        Returns:
            A call of ``[batch, n, d_model]``.
        """
        n = len(states)
        arguments = {**self.arguments, STATES: states.expand(len(self.states), -1, -1)}
        mask = self.arguments.get(MASK)
        if mask is not None:
            arguments[MASK] = mask.expand(*mask.shape[:2], n, n)
        if self.tables is not None:
            arguments[TABLES] = map_tables(lambda table: _repeated(table, n), self.tables)
        if isinstance(self.arguments.get(POSITIONS), Tensor):
            arguments[POSITIONS] = self.arguments[POSITIONS].expand(-1, n)
        return AttentionCall(self.module, arguments)

    def at(self, position: str, origin: Tables | None) -> AttentionCall:
        """The call with its tokens rotated elsewhere.

        Args:
            position: where to: ``keep`` (its own place), ``origin`` (position 0) or ``none``.
            origin: the tables of position 0, ``[1, 1, rotary_dim]``.

        Returns:
            The call; where the module rotates by the position's number, ``none`` is position 0,
            whose rotation changes nothing.
        """
        if position == "keep":
            return self
        changed: dict[str, Any] = {}
        if self.tables is not None:
            tables = self.tables
            if position == "none":
                changed[TABLES] = unrotating(tables)
            elif origin is not None:
                changed[TABLES] = as_many(origin, tables)
        if isinstance(self.arguments.get(POSITIONS), Tensor):
            changed[POSITIONS] = torch.zeros_like(self.arguments[POSITIONS])
        return AttentionCall(self.module, {**self.arguments, **changed})

    def cached(self) -> tuple[Tensor, Tensor] | None:
        """What the module would put into a KV cache.

        Returns:
            Two tensors ``[batch, heads, seq_len, width]``: key and value, or what a latent cache
            keeps of them; None for a module that puts nothing there.
        """
        try:
            self._run({self.cache_name: _Catching()})
        except _Caught as caught:
            return caught.content
        except Exception:  # it may ask for more than keys and values
            return None
        return None

    def attended(self) -> Attended | None:
        """What the module would give its attention function; None where it calls none."""
        try:
            with attention_function(self.module, CATCHING):
                self._run({self.cache_name: None})
        except _Caught as caught:
            return caught.content
        except Exception:  # one that attends by itself may not take fewer tokens
            return None
        return None

    def key_and_value(self) -> tuple[Tensor, Tensor]:
        """The keys ``[batch, n_kv_heads, seq_len, d_key]`` that queries meet, and the values."""
        attended = self.attended()
        if attended is not None:
            return attended.key, attended.value
        cached = self.cached()
        if cached is None:
            raise InputError(f"a {type(self.module).__name__} makes no keys")
        return cached

    def output(self, **changed: Any) -> Float[Tensor, "batch seq_len d_model"]:
        """What the module gives back, with some arguments changed."""
        return states_of(self._run({self.cache_name: None, **changed}))

    def _run(self, changed: Mapping[str, Any]) -> Any:
        # Not by a call of the module, whose hooks are for the pass.
        return self.module.forward(**{**self.arguments, **changed})


@contextlib.contextmanager
def attention_function(module: Any, name: str) -> Iterator[None]:
    """Let a module use another attention function, by its name in transformers.

    Args:
        module: an attention module, whose config is changed and restored.
        name: such as "eager".
    """
    from transformers import AttentionInterface

    config = getattr(module, "config", None)
    if config is None:  # it attends by itself
        yield
        return
    before = config._attn_implementation
    AttentionInterface.register(CATCHING, _catch)
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def _repeated(table: Tensor, n: int) -> Tensor:
    return table.expand(*table.shape[:-2], n, table.shape[-1])


def _mask_of_one(mask: Any) -> Any:
    """The mask of a single token, which sees itself; None where there is none."""
    if not isinstance(mask, Tensor) or mask.ndim != 4:
        return None
    seen = torch.zeros_like(mask[..., :1, :1])
    return ~seen if mask.dtype == torch.bool else seen


class _Caught(Exception):
    """Ends a call that was made to look at something.

    Attributes:
        content: what was looked for.
    """

    def __init__(self, content: Any):
        super().__init__()
        self.content = content


class _Catching(StandIn):
    """Is told one pair of states."""

    def update(self, keys: Tensor, values: Tensor, *where: Any, **options: Any) -> Any:
        raise _Caught((keys, values))


def _catch(module: Any, query: Any, key: Any, value: Any, mask: Any = None, **options: Any) -> Any:
    """Poses as an attention function."""
    raise _Caught(Attended(query, key, value, options))
