"""Base: what every training-free embedding method has; it knows none of them by name."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from jaxtyping import Float
from torch import Tensor

from kvlens.layers.readout import LAST, Readout, block_of, readout_argument
from kvlens.methods.pooling import POOLINGS
from kvlens.methods.watch import Watch
from kvlens.models.chat_prompt import chat
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.store.arguments import flag_argument, text_argument
from kvlens.store.checking import a
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch
from kvlens.texts.prompts import PROMPTS, Prompt
from kvlens.texts.tokens import TokenizedText, tokenize

PREPARE = "prepare"  # a setting of every method that is recorded within its prompts

Embed = Callable[[Any, LanguageModel, TokenBatch], Tensor]
Read = Callable[[], Tensor]
"""Gives vectors when a pass is run."""


def _in_turn(embed: Embed) -> Embed:
    """`Method.embed` in a turn on the model."""

    @functools.wraps(embed)
    def embed_in_turn(self: Any, lm: LanguageModel, batch: TokenBatch) -> Tensor:
        with lm.turn("measurement"):
            return embed(self, lm, batch)

    return embed_in_turn


@dataclass(frozen=True)
class Method:
    """A method: prompts, how a text becomes tokens, and how a batch becomes vectors.

    A new one sets `name` and `paper` and overrides what differs; its dataclass fields are its
    settings, and they are recorded with every result. Every `embed` runs in a turn on the model:
    no other thread runs it meanwhile, and it is not re-routed from outside.

    Attributes:
        name: by which it is asked for; a class without one is a helper, not a method.
        paper: where it was published.
        takes_layers: it re-routes, and has the fields layers, bias and position.
        reads_states: it pools hidden states, after the block that `readout` says.
        needs_calibration: it carries keys and values of other texts, and has the field calibration.
        query: the prompt around queries.
        document: the prompt around documents.
        pooling: one of `kvlens.methods.pooling.POOLINGS`.
        readout: the block after which hidden states are read: its index (-1: the last), or a share
            of the blocks.
        final_norm: whether they go through the model's final norm first.
    """

    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    takes_layers: ClassVar[bool] = False
    reads_states: ClassVar[bool] = True
    needs_calibration: ClassVar[bool] = False

    query: Prompt = PROMPTS["raw"]
    document: Prompt = PROMPTS["raw"]
    pooling: str = "last"
    readout: Readout | None = LAST
    final_norm: bool | None = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "embed" in vars(cls):
            cls.embed = _in_turn(cls.embed)  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        for name in ("query", "document"):
            _a_prompt(name, getattr(self, name))
        check_pooling(text_argument("pooling", self.pooling))
        self._check_readout()

    def _check_readout(self) -> None:
        """Raise InputError for a readout that is none, or that the method does not look at."""
        looks_at_it = self.reads_states and type(self).embed is Method.embed
        for name, argument in (("readout", readout_argument), ("final_norm", flag_argument)):
            value = getattr(self, name)
            default = getattr(type(self), name)
            if value is None and default is None:
                continue
            if not looks_at_it and value != default:
                raise InputError(f"{self.name} has no readout: leave out `{name}`")
            object.__setattr__(self, name, argument(name, value))

    @classmethod
    def settings_beside(cls, folder: Path) -> dict[str, Any]:
        """Settings that are files beside a layer set.

        Args:
            folder: where the layer set is.

        Returns:
            Of those that exist.
        """
        return {}

    def for_model(self, lm: LanguageModel) -> Self:
        """The method with every setting that depends on the model filled in.

        Args:
            lm: the model.

        Returns:
            The method for `lm`; its readout is a block's index.

        Raises:
            InputError: where the model cannot serve the settings.
        """
        if self.readout is None:
            return self
        return replace(self, readout=block_of(self.readout, lm.info.n_layers))

    def in_chat(self, lm: LanguageModel, system: str | None = None) -> Self:
        """The method with both prompts inside the model's chat template, see `kvlens.chat`."""
        changes: dict[str, Any] = {
            name: chat(lm, getattr(self, name), system) for name in ("query", "document")
        }
        return replace(self, **changes)

    def preparing(self, prepare: bool) -> Self:
        """The method with texts prepared for both prompts, or for none, see `Prompt.prepare`."""
        on = flag_argument(PREPARE, prepare)
        changes: dict[str, Any] = {
            name: getattr(self, name).prepares(on) for name in ("query", "document")
        }
        return replace(self, **changes)

    def tokenize(
        self,
        lm: LanguageModel,
        texts: Sequence[str],
        prompt: Prompt,
        max_length: int,
        strict: bool = False,
    ) -> list[TokenizedText]:
        """Texts -> ids.

        Args:
            lm: the model.
            texts: the texts.
            prompt: around each.
            max_length: most tokens, prompt included; what does not fit is cut off the text's end,
                never off the prompt.
            strict: refuse a longer text, where it is cut otherwise.

        Returns:
            One for each text, in their order.

        Raises:
            InputError: for a text that does not fit when `strict`, and a prompt that does not.
        """
        return tokenize(lm.tokenizer, texts, prompt, max_length, strict)

    @contextlib.contextmanager
    def around(self, lm: LanguageModel, batch: TokenBatch) -> Iterator[TokenBatch]:
        """What a method does to the model while a pass is run; nothing, unless it is overridden.

        Args:
            lm: the model, the one of `for_model`.
            batch: what `tokenize` gave.

        Yields:
            What the pass runs on.
        """
        yield batch

    def read(self, lm: LanguageModel, batch: TokenBatch, watch: Watch) -> Read:
        """Ask for what a pass shows.

        Args:
            lm: the model, the one of `for_model`.
            batch: what the pass runs on.
            watch: takes what is asked for.

        Returns:
            Gives the vectors when the pass is run: a row a text, of the model's dtype or float32.
        """
        readout = LAST if self.readout is None else self.readout
        states = watch.states(readout, bool(self.final_norm))
        return lambda: POOLINGS[self.pooling](states(), batch)

    def width(self, lm: LanguageModel) -> int:
        """How many numbers a vector of `embed` has: those of the residual stream."""
        return lm.info.d_model

    def around_key(self) -> Hashable:
        """What `around` depends on; methods that change the model alike give equal ones.

        None where it does nothing. A method that overrides `around` and not this shares no pass.
        """
        return None if type(self).around is Method.around else object()

    def pass_of(self, prompt: Prompt) -> Hashable:
        """What decides the forward pass of a text; methods of equal ones can share it.

        Args:
            prompt: around the text.

        Returns:
            A key, see `embed_together`.
        """
        if type(self).embed is not Method.embed:
            return object()
        return type(self).tokenize, tuple(prompt.deciding), self.around_key()

    def read_after(self, readout: Readout, final_norm: bool) -> Self:
        """The same method, read after another block."""
        return replace(self, readout=readout, final_norm=final_norm)

    @_in_turn
    def embed(self, lm: LanguageModel, batch: TokenBatch) -> Float[Tensor, "batch d"]:
        """Vectors of a batch, by `around` and `read`.

        Args:
            lm: the model, the one of `for_model`.
            batch: what `tokenize` gave, padded on either side.

        Returns:
            One row a text, of the model's dtype or float32.

        Raises:
            InputError: inside a `with reroute` block, and for a model in train mode.
        """
        (vectors,) = _in_one_pass(lm, [self], batch)
        return vectors

    def settings(self) -> dict[str, Any]:
        """Every setting, as plain values; without the readout where it is the plain one."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        # So files and hashes of before there was a readout stay what they were.
        if self.readout is None or (self.readout, self.final_norm) == (LAST, True):
            del values["readout"], values["final_norm"]
        return {name: _plain(value) for name, value in values.items()}


_a_prompt = a(Prompt, "a Prompt")


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Prompt) else value


def final_hidden(lm: LanguageModel, batch: TokenBatch) -> Float[Tensor, "batch seq_len d_model"]:
    """Hidden states after the final norm, without the LM head."""
    return run_base(lm, batch).last_hidden_state


def embed_together(
    lm: LanguageModel, methods: Sequence[Method], batch: TokenBatch
) -> list[Float[Tensor, "batch _"]]:
    """Vectors of one batch by methods that share the forward pass.

    Args:
        lm: the model, the one of `Method.for_model`.
        methods: at least one, all of the same `Method.pass_of`.
        batch: what the `tokenize` of each of them gives.

    Returns:
        The vectors of each method, as its `embed` gives them.

    Raises:
        InputError: as `Method.embed`.
    """
    if type(methods[0]).embed is not Method.embed:
        return [method.embed(lm, batch) for method in methods]
    return _in_one_pass(lm, methods, batch)


def _in_one_pass(
    lm: LanguageModel, methods: Sequence[Method], batch: TokenBatch
) -> list[Float[Tensor, "batch _"]]:
    with lm.turn("measurement"), methods[0].around(lm, batch) as run:
        watch = Watch(lm, run)
        reads = [method.read(lm, run, watch) for method in methods]
        watch.run()
        return [read() for read in reads]


def check_pooling(name: str) -> None:
    """Raise InputError for an unknown pooling."""
    if name not in POOLINGS:
        raise InputError(f"unknown pooling {name!r}: give one of {', '.join(POOLINGS)}")
