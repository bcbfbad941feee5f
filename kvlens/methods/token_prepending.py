"""Token Prepending: a placeholder before the text carries the last token's state along."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.layers.readout import Readout, block_of
from kvlens.methods.base import Method, Read
from kvlens.methods.depth import relative
from kvlens.methods.watch import Watch
from kvlens.models.dispatched import value_of
from kvlens.models.language_model import LanguageModel
from kvlens.store.arguments import choice_argument, whole_number
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch
from kvlens.texts.prompts import PROMPTS, Prompt, from_template
from kvlens.texts.tokens import TokenizedText, tokenize

# Marks the placeholder among the ids; its embedding is put in by `embed`.
PLACEHOLDER = -1

_PROMPT = from_template(
    'This sentence : "{text}" means in one word:"', "token-prepending", "arXiv:2412.11556"
).prepares(True)


class Published(NamedTuple):
    """What the authors give for one model.

    Attributes:
        n_layers: of that model.
        start: the first block whose input is changed.
        exit: the block after the last one.
        output: how many blocks are run; counted from the end where negative: -1 is all but one.
        prompt: around each text.
    """

    n_layers: int
    start: int
    exit: int
    output: int
    prompt: Prompt


PUBLISHED = {
    "llama-2-7b": Published(32, 1, 7, 27, _PROMPT),
    "llama-2-13b": Published(40, 1, 7, -1, PROMPTS["cot"]),
    "llama-3-8b": Published(32, 1, 3, -1, PROMPTS["cot"]),
    "qwen2-7b": Published(28, 1, 6, -1, PROMPTS["cot"]),
    "gemma-2-9b": Published(42, 1, 6, -1, PROMPTS["cot"]),
}


@dataclass(frozen=True)
class TokenPrepending(Method):
    """Fu et al. 2025: the placeholder takes the last token's state from block to block.

    It takes it at the input of the blocks start <= i < exit; the vector is the last token's state
    after `output` blocks, before the final norm. What is None is that of `published`, scaled by
    relative depth. The placeholder stands right before the opening quote. It needs no vocabulary
    entry, and nothing is random: its embedding is the mean of the embedding table, where the
    authors draw it from N(0, 1), unseeded.

    Attributes:
        published: which of `PUBLISHED`; it brings its prompt along, unless another is given.
        start: the first block whose input is changed.
        exit: the block after the last one.
        output: how many blocks are run; the same as a `readout` of the block before.
    """

    name = "token_prepending"
    paper = "arXiv:2412.11556"
    query: Prompt = _PROMPT
    document: Prompt = _PROMPT
    readout: Readout | None = None
    final_norm: bool | None = False
    published: str = "llama-2-7b"
    start: int | None = None
    exit: int | None = None
    output: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        choice_argument("published", self.published, PUBLISHED)
        for name in ("query", "document"):
            if getattr(self, name) is _PROMPT:
                object.__setattr__(self, name, PUBLISHED[self.published].prompt)
        for name in ("start", "exit", "output"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole_number(name, value, least=0))

    def for_model(self, lm: LanguageModel) -> TokenPrepending:
        """The method with its blocks scaled to the model and checked."""
        n = lm.info.n_layers
        published = PUBLISHED[self.published]
        start = self.start
        if start is None:
            start = max(1, relative(lm, published.start / published.n_layers))
        leave = self.exit
        if leave is None:
            leave = max(start + 1, relative(lm, published.exit / published.n_layers))
        output = self._output(lm, published)
        if not (1 <= start < leave <= n and 1 <= output <= n):
            raise InputError(
                f"token_prepending needs 1 <= start < exit <= {n} and 1 <= output <= {n}"
            )
        read = block_of(output - 1, n)
        return replace(self, start=start, exit=leave, output=output, readout=read)

    def _output(self, lm: LanguageModel, published: Published) -> int:
        """How many blocks are run."""
        n = lm.info.n_layers
        read = None if self.readout is None else 1 + block_of(self.readout, n) % n
        if read is not None and self.output not in (None, read):
            raise InputError("token_prepending takes `output` or `readout`, not both")
        if read is not None:
            return read
        if self.output is not None:
            return self.output
        if published.output < 0:
            return max(1, n + published.output)
        return max(1, relative(lm, published.output / published.n_layers))

    def tokenize(
        self,
        lm: LanguageModel,
        texts: Sequence[str],
        prompt: Prompt,
        max_length: int,
        strict: bool = False,
    ) -> list[TokenizedText]:
        """Texts after the placeholder."""
        prefix = prompt.prefix.rstrip('"').rstrip()
        before_quote = prompt.model_copy(update={"prefix": prefix, "suffix": "", "prepare": False})
        (before,) = tokenize(lm.tokenizer, [""], before_quote, max_length)
        prompted = tokenize(lm.tokenizer, texts, prompt, max_length - 1, strict)
        return [_with_placeholder(text, before.ids) for text in prompted]

    def around_key(self) -> Hashable:
        """Which blocks get the last token's state."""
        return type(self), self.start, self.exit

    def read_after(self, readout: Readout, final_norm: bool) -> TokenPrepending:
        """The same method, read after another block."""
        return replace(self, output=None, readout=readout, final_norm=final_norm)

    @contextlib.contextmanager
    def around(self, lm: LanguageModel, batch: TokenBatch) -> Iterator[TokenBatch]:
        """The placeholder is filled; the ids that the pass runs on have another token there."""
        blocks = self.for_model(lm)
        hooks = _Hooks(batch, _mean_embedding(lm))
        with lm.turn() as turn:
            turn.after(lm.base.get_input_embeddings(), hooks.fill)
            for block in lm.blocks[blocks.start : blocks.exit]:
                turn.before(block, hooks.prepend)
            yield replace(batch, ids=batch.ids.clamp(min=0))

    def read(self, lm: LanguageModel, batch: TokenBatch, watch: Watch) -> Read:
        """The last token's state after `output` blocks; no block above them is run."""
        return super(TokenPrepending, self.for_model(lm)).read(lm, batch, watch)


def _with_placeholder(text: TokenizedText, before: Sequence[int]) -> TokenizedText:
    """The text with the placeholder after the tokens that it shares with `before`."""
    shared = [a == b for a, b in zip(before, text.ids, strict=False)]
    place = (*shared, False).index(False)  # a tokenizer may end `before` with an EOS
    ids = (*text.ids[:place], PLACEHOLDER, *text.ids[place:])
    start, end = text.span
    return TokenizedText(ids, (start + 1, end + 1), text.truncated)


def _mean_embedding(lm: LanguageModel) -> Float[Tensor, " d_model"]:
    table = lm.base.get_input_embeddings()
    return value_of(table, "weight").mean(0) * getattr(table, "embed_scale", 1.0)


class _Hooks:
    """What the hooks share in one forward pass."""

    def __init__(self, batch: TokenBatch, embedding: Float[Tensor, " d_model"]):
        self.batch = batch
        self.embedding = embedding
        self.is_placeholder = batch.ids == PLACEHOLDER
        self.row = torch.arange(len(batch.ids), device=batch.ids.device)
        self.place = self.is_placeholder.long().argmax(1)

    def fill(self, module: Any, args: Any, output: Tensor) -> Tensor:
        """After the embedding table: the placeholder's embedding."""
        is_placeholder = self.is_placeholder[..., None].to(output.device)
        return torch.where(is_placeholder, self.embedding.to(output), output)

    def prepend(self, module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before a block: the last token's state at the placeholder."""
        states = args[0].clone()
        if states.ndim != 3 or states.shape[-1] != len(self.embedding):
            raise InputError(
                f"token_prepending needs one hidden state a token, not {list(states.shape)}"
            )
        row, place, last_place = (
            index.to(states.device) for index in (self.row, self.place, self.batch.last)
        )
        states[row, place] = states[row, last_place]
        return (states, *args[1:])
