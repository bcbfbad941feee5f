"""The one module of an encoder as a `SentenceTransformer`: texts in, finished vectors out.

Imported by `as_sentence_transformer` alone, since its base class is of an optional package.
"""

from __future__ import annotations

from typing import Any

import torch
from sentence_transformers.base.modules import InputModule

from kvlens.embedding.encoder import Encoder
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch, pad, position_ids
from kvlens.texts.texts import as_texts

# What sentence-transformers hands on as the prompt where its user names one of ours.
PROMPT_MARKERS = {"query": "kvlens:query", "document": "kvlens:document"}
NAME_OF = {marker: name for name, marker in PROMPT_MARKERS.items()}


class EncoderModule(InputModule):
    """Tokenizes, embeds and post-processes as an `Encoder` does.

    Attributes:
        encoder: the encoder.
        tokenizer: its model's.
        max_seq_length: most tokens of a text with its prompt.
    """

    def __init__(self, encoder: Encoder):
        """A module around `encoder`."""
        super().__init__()
        self.encoder = encoder
        self.tokenizer = encoder.lm.tokenizer
        self.max_seq_length = encoder.max_length

    def preprocess(self, inputs: Any, prompt: str | None = None, **options: Any) -> dict[str, Any]:
        """Texts as the features that `forward` takes."""
        name = NAME_OF.get(prompt or "")
        template = self.encoder.prompt_for(name, prompt if name is None else None)
        tokenized = self.encoder.tokenize(as_texts(inputs).items, template)
        batch = pad(tokenized, range(len(inputs)), self.encoder.lm.tokenizer.pad_token_id)
        return {
            "input_ids": batch.ids,
            "attention_mask": batch.mask,
            "text_mask": batch.text_mask,
        }

    def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Any]:
        """The features, with ``sentence_embedding`` float32 ``[batch, d]``."""
        mask = features["attention_mask"]
        batch = TokenBatch(
            rows=torch.arange(len(mask)),
            ids=features["input_ids"],
            mask=mask,
            positions=position_ids(mask),
            last=mask.sum(1) - 1,
            text_mask=features["text_mask"],
        )
        vectors = self.encoder.method.embed(self.encoder.lm, batch).float()
        features["sentence_embedding"] = self.encoder.finish(vectors)
        return features

    def get_embedding_dimension(self) -> int:
        """How many numbers a vector has."""
        return self.encoder.get_embedding_dimension()

    def save(self, *args: Any, **options: Any) -> None:
        """Raise InputError: what makes an encoder again is its layer set."""
        raise InputError(
            "a kvlens encoder is not saved this way: keep its layer set and load it again"
        )
