"""An encoder as a `SentenceTransformer`."""

from __future__ import annotations

from typing import Any

import torch

from kvlens.embedding.encoder import Encoder
from kvlens.store.errors import InputError
from kvlens.texts.texts import as_texts


def as_sentence_transformer(encoder: Encoder) -> Any:
    """A real `sentence_transformers.SentenceTransformer` around `encoder`, for tools that build on that library.

    ``encode_query`` and ``encode_document`` use the method's prompts; another prompt is a prefix or a template.
    Needs the package sentence-transformers (extra ``kvlens[st]``).
    """
    try:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import InputModule
    except ImportError as error:
        raise InputError("this needs sentence-transformers: pip install 'kvlens[st]'") from error
    from kvlens.texts.tokens import TokenBatch, pad

    names = {"query": "kvlens:query", "document": "kvlens:document"}

    class KVLensModule(InputModule):
        tokenizer = encoder.lm.tokenizer
        max_seq_length = encoder.max_length

        def preprocess(
            self, inputs: Any, prompt: str | None = None, **options: Any
        ) -> dict[str, Any]:
            named = {marker: name for name, marker in names.items()}
            chosen = encoder._prompt(named.get(prompt or ""), None if prompt in named else prompt)
            tokenized = encoder.tokenize(as_texts(inputs).items, chosen)
            batch = pad(tokenized, range(len(inputs)), encoder.lm.tokenizer.pad_token_id)
            return {
                "input_ids": batch.ids,
                "attention_mask": batch.mask,
                "text_mask": batch.text_mask,
            }

        def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Any]:
            ids, mask = features["input_ids"], features["attention_mask"]
            rows, positions = torch.arange(len(ids)), (mask.cumsum(1) - 1).clamp(min=0)
            batch = TokenBatch(rows, ids, mask, positions, mask.sum(1) - 1, features["text_mask"])
            vectors = encoder.method.embed(encoder.lm, batch).float()
            features["sentence_embedding"] = encoder.finish(vectors, None, False)
            return features

        def get_embedding_dimension(self) -> int:
            return encoder.get_embedding_dimension()

        def save(self, *args: Any, **options: Any) -> None:
            raise InputError(
                "a kvlens encoder is not saved this way: keep its layer set and load it again"
            )

    device = str(encoder.lm.device)
    return SentenceTransformer(
        modules=[KVLensModule()], prompts=names, default_prompt_name="document", device=device
    )
