"""Token Prepending: a placeholder before the text carries the last token's state along."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kvlens.methods.base import Method, relative
from kvlens.methods.pooling import last
from kvlens.models.attention_call import states_of
from kvlens.models.dispatched import value_of
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.store.arguments import whole_number
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch
from kvlens.texts.prompts import Prompt, from_template
from kvlens.texts.tokens import TokenizedText, tokenize

# Marks the placeholder among the ids; its embedding is put in by `embed`.
PLACEHOLDER = -1

_PROMPT = from_template(
    'This sentence : "{text}" means in one word:"', "token-prepending", "arXiv:2412.11556"
)


@dataclass(frozen=True)
class TokenPrepending(Method):
    """Fu et al. 2025: the placeholder takes the last token's state from block to block.

    It takes it at the input of the blocks start <= i < exit. The published (start, exit, output)
    for 32 layers is (1, 7, 27); None scales it by relative depth. The placeholder stands right
    before the opening quote. It needs no vocabulary entry: its embedding is the mean of the
    embedding table, nothing is random.

    Attributes:
        start: the first block whose input is changed.
        exit: the block after the last one.
        output: how many blocks are run; the last token's state after them is the vector.
    """

    name = "token_prepending"
    source = "arXiv:2412.11556"
    query: Prompt = _PROMPT
    document: Prompt = _PROMPT
    start: int | None = None
    exit: int | None = None
    output: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("start", "exit", "output"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, whole_number(name, value, least=0))

    def for_model(self, lm: LanguageModel) -> TokenPrepending:
        """The method with its blocks scaled to the model and checked."""
        n = lm.info.n_layers
        start = max(1, relative(lm, 1 / 32)) if self.start is None else self.start
        leave = max(start + 1, relative(lm, 7 / 32)) if self.exit is None else self.exit
        output = max(1, relative(lm, 27 / 32)) if self.output is None else self.output
        if not (1 <= start < leave <= n and 1 <= output <= n):
            raise InputError(
                f"token_prepending needs 1 <= start < exit <= {n} and 1 <= output <= {n}"
            )
        return replace(self, start=start, exit=leave, output=output)

    def tokenize(
        self,
        lm: LanguageModel,
        texts: Sequence[str],
        prompt: Prompt,
        max_length: int,
        strict: bool = False,
    ) -> list[TokenizedText]:
        """Texts that end in a full stop, quote or question mark, after the placeholder."""
        ended = [text if text.endswith((".", "?", '"', "'")) else text + "." for text in texts]
        prefix = prompt.prefix.rstrip('"').rstrip()
        before_quote = prompt.model_copy(update={"prefix": prefix, "suffix": ""})
        (before,) = tokenize(lm.tokenizer, [""], before_quote, max_length)
        prompted = tokenize(lm.tokenizer, ended, prompt, max_length - 1, strict)
        return [_with_placeholder(text, before.ids) for text in prompted]

    def embed(self, lm: LanguageModel, batch: TokenBatch) -> Float[Tensor, "batch d_model"]:
        """The last token's state after `output` blocks; no block above them is run."""
        if self.start is None or self.exit is None or self.output is None:
            return self.for_model(lm).embed(lm, batch)
        run = _Pass(batch, _mean_embedding(lm))
        with lm.turn() as turn:
            turn.after(lm.base.get_input_embeddings(), run.fill)
            for block in lm.blocks[self.start : self.exit]:
                turn.before(block, run.prepend)
            turn.after(lm.blocks[self.output - 1], run.stop)
            with contextlib.suppress(_Enough):
                run_base(lm, replace(batch, ids=batch.ids.clamp(min=0)))
        return run.vectors


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


class _Pass:
    """What the hooks share in one forward pass.

    Attributes:
        vectors: the last token's state where the pass was stopped, ``[batch, d_model]``.
    """

    vectors: Tensor

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

    def stop(self, module: Any, args: Any, output: Any) -> None:
        """After the last block that is needed."""
        states = states_of(output)
        self.vectors = last(states, self.batch)
        raise _Enough


class _Enough(Exception):
    """No block above the output is needed."""
