"""Recipe: how any process of any machine makes the same encoder or recorder, as plain values.

A model is never sent: every actor loads it by its name, and looks whether it is the same one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt

if TYPE_CHECKING:
    from kvlens.embedding.encoder import Encoder
    from kvlens.models.language_model import LanguageModel
    from kvlens.tracing.recorder import Recorder


@dataclass(frozen=True)
class ModelRecipe:
    """What makes a model.

    Attributes:
        model: named model, hub id, directory or .gguf file.
        loading: further keywords of `kvlens.load`.
        chat: the keywords ``chat`` and ``system`` of `Encoder`.
        limits: its ``max_length``, ``batch_tokens`` and ``strict``.
        folder: what relative paths start from, on every machine.
    """

    model: str
    loading: Mapping[str, Any] = field(default_factory=dict)
    chat: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    folder: str = field(default_factory=os.getcwd)

    def of_batches(self, batch_tokens: int | None) -> Self:
        """The same in batches of so many padded tokens; None: each process chooses."""
        return replace(self, limits={**self.limits, "batch_tokens": batch_tokens})

    def load(self) -> LanguageModel:
        """The model; raises InputError as `kvlens.load`."""
        from kvlens.models.loading import load

        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        return load(self.model, **self.loading)


@dataclass(frozen=True)
class EncoderRecipe(ModelRecipe):
    """What makes an encoder.

    Attributes:
        method: a method, with settings such as ``kv_embedding:layers=7-8``.
        layers: the file of a layer set, or block indices, for methods that take them.
        post: a post-processing that was fitted before, or its file.
        force: use a layer set or post-processing of another model.
    """

    method: str = "kv_embedding"
    layers: str | tuple[int, ...] | None = None
    post: str | None = None
    force: bool = False

    def encoder(self) -> Encoder:
        """The encoder, its model loaded here; raises InputError as `Encoder`."""
        return self.encoder_of(self.load())

    def encoder_of(self, lm: LanguageModel) -> Encoder:
        """The encoder of the model, which is loaded; raises InputError as `Encoder`."""
        from kvlens.embedding.encoder import Encoder
        from kvlens.embedding.spec import MethodSpec
        from kvlens.texts.limits import Limits

        spec = MethodSpec.parse(self.method)
        options = {**self.chat, **self.limits, "force": self.force}
        if not spec.settings:
            return Encoder(lm, spec.method, self.layers, self.post, **options)
        limits = Limits.of(self.limits)  # type: ignore[arg-type]
        method = spec.encoder(lm, self.layers, limits, self.force, **self.chat).method
        return Encoder(lm, method, None, self.post, force=self.force, **self.limits)


@dataclass(frozen=True)
class RecorderRecipe(ModelRecipe):
    """What makes a recorder.

    Attributes:
        prompt: around every text.
        points: which hidden states.
        keep: the kinds of states.
    """

    prompt: str | Prompt = DEFAULT_DOCUMENT
    points: Any = "last"
    keep: tuple[str, ...] = ("hidden",)

    def recorder(self) -> Recorder:
        """The recorder, its model loaded here; raises InputError as `record_shards`."""
        from kvlens.models.batch_budget import batch_budget
        from kvlens.models.chat_prompt import asks_for_chat, chat
        from kvlens.texts.limits import BATCH_TOKENS, Limits
        from kvlens.texts.prompts import as_prompt
        from kvlens.tracing.recorder import Recorder
        from kvlens.tracing.request import Request

        lm = self.load()
        prompt = as_prompt(self.prompt)
        if asks_for_chat(self.chat.get("chat", False), self.chat.get("system")):
            prompt = chat(lm, prompt, self.chat.get("system"))
        request = Request.of(lm.info, self.points, self.keep, None, patterns=False)
        limits = Limits.of(self.limits, batch_budget(lm, BATCH_TOKENS))  # type: ignore[arg-type]
        return Recorder.of(lm, prompt, request, limits)
