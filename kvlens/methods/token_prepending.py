"""Token Prepending: a placeholder before the text that carries the last token's state from block to block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from kvlens.methods.base import Method, relative
from kvlens.methods.pooling import last
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.texts.prompts import Prompt, from_template
from kvlens.texts.tokens import TokenBatch, TokenizedText, tokenize

_PROMPT = from_template(
    'This sentence : "{text}" means in one word:"', "token-prepending", "arXiv:2412.11556"
)


@dataclass(frozen=True)
class TokenPrepending(Method):
    """Fu et al. 2025. At the input of blocks start <= i < exit, the placeholder takes the last token's state.

    The published (start, exit, output) for 32 layers is (1, 7, 27); None scales it by relative depth. output: how
    many blocks are run; the last token's state after them is the vector. The placeholder stands right before the
    opening quote. It needs no vocabulary entry: its embedding is the mean of the embedding table, nothing is random.
    """

    name = "token_prepending"
    source = "arXiv:2412.11556"
    query: Prompt = _PROMPT
    document: Prompt = _PROMPT
    start: int | None = None
    exit: int | None = None
    output: int | None = None

    def for_model(self, lm: LanguageModel) -> TokenPrepending:
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
        ended = [text if text.endswith((".", "?", '"', "'")) else text + "." for text in texts]
        before = tokenize(
            lm.tokenizer,
            [""],
            Prompt(name="", prefix=prompt.prefix.rstrip('"').rstrip()),
            max_length,
        )
        result = []
        for one in tokenize(lm.tokenizer, ended, prompt, max_length - 1, strict):
            same = [a == b for a, b in zip(before[0].ids, one.ids, strict=False)]
            at = (*same, False).index(False)  # a tokenizer may end `before` with an EOS
            # -1 marks the placeholder; its embedding is put in by `embed`.
            ids = (*one.ids[:at], -1, *one.ids[at:])
            result.append(TokenizedText(ids, (one.span[0] + 1, one.span[1] + 1), one.truncated))
        return result

    def embed(self, lm: LanguageModel, batch: TokenBatch) -> torch.Tensor:
        marked = batch.ids == -1
        rows, places = (
            torch.arange(len(batch.ids), device=batch.ids.device),
            marked.long().argmax(1),
        )
        embedding = lm.base.get_input_embeddings()
        average = embedding.weight.mean(0) * getattr(embedding, "embed_scale", 1.0)
        state: list[torch.Tensor] = []

        def fill(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
            return torch.where(marked[..., None], average.to(output.dtype), output)

        def prepend(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
            hidden = args[0].clone()
            hidden[rows, places] = hidden[rows, batch.last]
            return (hidden, *args[1:])

        def keep(module: Any, args: Any, output: Any) -> None:
            state.append(last(output[0] if isinstance(output, tuple) else output, batch))
            raise _Enough

        if self.start is None or self.exit is None or self.output is None:
            return self.for_model(lm).embed(lm, batch)
        handles = [embedding.register_forward_hook(fill)]
        handles += [
            lm.blocks[i].register_forward_pre_hook(prepend) for i in range(self.start, self.exit)
        ]
        handles.append(lm.blocks[self.output - 1].register_forward_hook(keep))
        try:
            run_base(lm, replace(batch, ids=batch.ids.clamp(min=0)))
        except _Enough:
            pass
        finally:
            for handle in handles:
                handle.remove()
        return state[0]


class _Enough(Exception):
    """No block above the output is needed."""
