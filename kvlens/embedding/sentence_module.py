"""The one module of an encoder as a `SentenceTransformer`: texts in, finished vectors out.

Imported by `as_sentence_transformer`, since its base class is of an optional package, and by
sentence-transformers itself: saved folders name this class, so it stays in this file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from sentence_transformers.base.modules import InputModule

from kvlens.embedding.encoder import Encoder
from kvlens.embedding.saved_encoder import load_encoder, save_encoder
from kvlens.embedding.token_states import with_token_states
from kvlens.models.dispatched import is_dispatched
from kvlens.store.arguments import shown
from kvlens.store.errors import InputError
from kvlens.texts.batches import TokenBatch, pad, position_ids
from kvlens.texts.texts import as_texts

# What sentence-transformers hands on as the prompt where its user names one of ours.
PROMPT_MARKERS = {"query": "kvlens:query", "document": "kvlens:document"}
DOCUMENT = PROMPT_MARKERS["document"]
NAME_OF = {marker: name for name, marker in PROMPT_MARKERS.items()}
LOADING = {"dtype": "dtype", "torch_dtype": "dtype", "device_map": "device_map"}
"""What `model_kwargs` of sentence-transformers may say, as parameters of `load_encoder`."""


class EncoderModule(InputModule):
    """Tokenizes, embeds and post-processes as an `Encoder` does.

    It is saved with its model, loaded again, moved, pickled and handed to other processes. No chat
    template stands around a text but that of the encoder's own prompts.

    Attributes:
        encoder: the encoder.
        model: its transformers model, unless accelerate has spread it.
        tokenizer: its model's.
    """

    save_in_root = False

    def __init__(self, encoder: Encoder):
        """A module around `encoder`."""
        super().__init__()
        self.encoder = encoder
        self.tokenizer = encoder.lm.tokenizer
        if not is_dispatched(encoder.lm.hf):
            self.model = encoder.lm.hf

    @property
    def max_seq_length(self) -> int:
        """Most tokens of a text with its prompt."""
        return self.encoder.max_length

    @max_seq_length.setter
    def max_seq_length(self, length: int) -> None:
        self.encoder.limits = replace(self.encoder.limits, max_length=length)

    def on_model_ready(self, model: Any) -> None:
        """Have names of prompts that somebody leaves empty mean the encoder's own prompts.

        LlamaIndex empties ``query`` and ``text`` of every model that it loads. To ask for the bare
        text there is still ``encode(prompt="")``.
        """
        names = {*PROMPT_MARKERS, *model.prompts}
        empty = [name for name in sorted(names) if not model.prompts.get(name)]
        model.prompts |= {name: PROMPT_MARKERS.get(name, DOCUMENT) for name in empty}

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
        """The features with both kinds of vectors.

        Args:
            features: of `preprocess`.
            **options: not looked at.

        Returns:
            With ``sentence_embedding`` float32 ``[batch, d]``, and ``token_embeddings``
            ``[batch, seq_len, d_model]`` where the method pools hidden states: these, before any
            post-processing, the prompt's tokens too.
        """
        mask = features["attention_mask"]
        batch = TokenBatch(
            rows=torch.arange(len(mask)),
            ids=features["input_ids"],
            mask=mask,
            positions=position_ids(mask),
            last=mask.sum(1) - 1,
            text_mask=features["text_mask"],
        )
        vectors, states = with_token_states(self.encoder.lm, self.encoder.method, batch)
        features["sentence_embedding"] = self.encoder.finish(vectors.float())
        if states is not None:
            features["token_embeddings"] = states
        return features

    def get_embedding_dimension(self) -> int:
        """How many numbers a vector has."""
        return self.encoder.get_embedding_dimension()

    def save(self, output_path: str, *args: Any, **options: Any) -> None:
        """Write the encoder with its model, see `save_encoder`."""
        save_encoder(self.encoder, Path(output_path))

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **options: Any,
    ) -> Self:
        """Read what `save` wrote, from a folder or the hub; no code of it is run.

        Args:
            model_name_or_path: the folder of the `SentenceTransformer`, or its hub id.
            subfolder: of this module.
            token: of the hub.
            cache_folder: of the hub.
            revision: on the hub.
            local_files_only: fetch nothing.
            init_defaults: not looked at, as nothing is left open.
            **options: of these ``model_kwargs``, with ``dtype`` and ``device_map`` as `kvlens.load`
                takes them.

        Returns:
            The module.

        Raises:
            InputError: for other `model_kwargs`, and as `load_encoder`.
        """
        told = _loading(options.get("model_kwargs") or {})
        folder = cls.load_dir_path(
            model_name_or_path, subfolder, token, cache_folder, revision, local_files_only
        )
        if folder is None:
            raise InputError(f"{model_name_or_path} has no folder {subfolder}: save it again")
        return cls(load_encoder(Path(folder), **told))

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move or cast the weights, as every `to` does; then find anew what hangs on them."""
        super()._apply(fn, recurse)
        self.encoder.lm = self.encoder.lm.as_it_is_now()
        return self


def _loading(model_kwargs: dict[str, Any]) -> dict[str, Any]:
    """What `model_kwargs` say, as parameters of `load_encoder`."""
    unknown = [name for name in model_kwargs if name not in LOADING]
    if unknown:
        raise InputError(
            f"`model_kwargs` of a kvlens encoder are dtype and device_map, not {shown(unknown[0])}"
        )
    told = {LOADING[name]: value for name, value in model_kwargs.items() if value is not None}
    if isinstance(told.get("dtype"), torch.dtype):
        told["dtype"] = str(told["dtype"]).removeprefix("torch.")
    return told
