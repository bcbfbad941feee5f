"""Encoder: text in, vectors out, with the conventions of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from kvlens.embedding.bar import text_bar
from kvlens.embedding.calibration import calibration_for
from kvlens.embedding.configure import configure
from kvlens.embedding.embed_filter import filter_of
from kvlens.embedding.output import Output, OutputOptions
from kvlens.embedding.passes import each_once, embed_batches
from kvlens.embedding.post import TEXTLESS, Post, find_post, fit, post_file
from kvlens.embedding.prompt_meant import prompt_meant
from kvlens.embedding.signature import signature_of
from kvlens.embedding.similarity import cosine_matrix, cosine_pairs
from kvlens.layers.route import RouteLike, a_route
from kvlens.methods.base import Method
from kvlens.models.batch_budget import batch_budget
from kvlens.models.chat_prompt import asks_for_chat
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.checking import a, arguments, choice, flag, function, optional, real, text, whole
from kvlens.store.facts import facts_html
from kvlens.store.hub_folder import is_fetched
from kvlens.store.progress import Progress, silent
from kvlens.store.room import Room
from kvlens.store.sharing import PerThread
from kvlens.texts.limits import Limits
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.tokens import TokenizedText

BATCH_TOKENS = 4096  # more than for recording: nothing but vectors is kept


class Encoder:
    """One method on one model.

    Attributes:
        lm: the model.
        method: with every setting that depends on the model filled in.
        limits: how long a text may be, how much goes into a batch.
        room: how much goes into a batch now: less where memory has been short.
        chose_batches: whether nobody said how much goes into a batch.
        post: the post-processing, or None.
        folder: where post-processing is kept: that of the layer-set file, or None.
    """

    @arguments(
        lm=a_model,
        method=a((str, Method), "the name of a method, or a Method"),
        layers=optional(a_route),
        post=optional(a((str, Path, Post), "the name of a post-processing, its file or a Post")),
        force=flag,
        chat=flag,
        system=optional(text),
    )
    def __init__(
        self,
        lm: LanguageModel,
        method: str | Method = "kv_embedding",
        layers: RouteLike | None = None,
        post: str | Path | Post | None = None,
        max_length: int | None = None,
        batch_tokens: int | None = None,
        strict: bool = False,
        force: bool = False,
        chat: bool = False,
        system: str | None = None,
        **settings: Any,
    ):
        """An encoder.

        Args:
            lm: the model.
            method: a name (see `kvlens.methods`), or a Method.
            layers: for a method that re-routes, a LayerSet, its file or its name at the hub,
                ``hf://org/name@revision`` (all bring bias, position, control, prompts, pooling and
                readout along), a Route, or block indices.
            post: ``center``, ``project_mean``, ``zscore`` or ``whiten`` (fitted before by
                `fit_post`, kept beside the layer-set file), ``embed_filter`` (made of the model),
                a file, or a Post.
            max_length: most tokens of a text with its prompt; default the model's context.
            batch_tokens: most padded tokens of a batch; default 4,096, and on CUDA as many as fit,
                see `batch_budget`. Where memory is short even so, they are halved, and it is said.
            strict: refuse a longer text, where it is cut otherwise.
            force: use a layer set or a post-processing that was made for another model.
            chat: put both prompts inside the model's chat template, see `kvlens.chat`.
            system: its system line; None: what the template writes by itself.
            **settings: the method's own; they go before those of the layer set.

        Raises:
            InputError: for anything that does not fit together.
        """
        self.chose_batches = batch_tokens is None
        if batch_tokens is None:
            batch_tokens = batch_budget(lm, BATCH_TOKENS)
        limits = Limits(max_length, strict, batch_tokens)
        self.lm = lm
        self.limits = replace(limits, max_length=limits.tokens_for(lm.info.max_positions))
        self.room = Room(batch_tokens)
        self.folder = Path(layers).parent if isinstance(layers, str | Path) else None
        configured = configure(lm.info, method, layers, settings, force)
        if asks_for_chat(chat, system):
            configured = configured.in_chat(lm, system)
        self.method = configured.for_model(lm)
        self._truncated = PerThread(0)
        self.post: Post | None = None
        if isinstance(post, str) and post in TEXTLESS:
            self.post = filter_of(self)
        elif post is not None:
            self.post = find_post(post, self.folder, self.signature, force)

    def _repr_html_(self) -> str:
        facts = {"model": self.lm.info.name, **self.method.settings()}
        for name, value in facts.items():
            facts[name] = value["name"] if isinstance(value, dict) and "name" in value else value
        facts |= {"most tokens": self.max_length, "dimension": self.get_embedding_dimension()}
        facts["post"] = self.post.kind if self.post else "none"
        return facts_html(f"encoder: {self.method.name}", facts)

    @property
    def truncated(self) -> int:
        """How many distinct texts this thread's last call cut."""
        return self._truncated.get()

    @property
    def max_length(self) -> int:
        """Most tokens of a text with its prompt."""
        return self.limits.tokens_for(self.lm.info.max_positions)

    @property
    def batch_tokens(self) -> int:
        """Most padded tokens of a batch."""
        return self.limits.batch_tokens

    def of_batches(self, batch_tokens: int) -> Encoder:
        """The same encoder, with so many padded tokens in a batch."""
        changed = self.with_room(Room(batch_tokens))
        changed.limits = replace(self.limits, batch_tokens=batch_tokens)
        return changed

    def with_room(self, room: Room) -> Encoder:
        """The same encoder, with room of its own for batches."""
        changed = copy(self)
        changed.room = room
        return changed

    @property
    def strict(self) -> bool:
        """Whether a longer text is refused, where it is cut otherwise."""
        return self.limits.strict

    @property
    def signature(self) -> str:
        """A hash of all that decides a vector before post-processing, see `signature_of`."""
        return signature_of(self.lm.info, self.method, self.max_length)

    @arguments(
        prompt_name=optional(text),
        prompt=optional(a((str, Prompt), "a text or a Prompt")),
        batch_size=optional(whole(least=1)),
        show_progress_bar=optional(flag),
        progress=optional(function),
    )
    def encode(
        self,
        inputs: str | Sequence[str],
        prompt_name: str | None = None,
        prompt: str | Prompt | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        *,
        progress: Progress | None = None,
        **output: Unpack[OutputOptions],
    ) -> np.ndarray | Tensor | list[Tensor]:
        """Embed one text or a list of texts; equal texts are embedded once.

        Args:
            inputs: the texts, which are never interpreted.
            prompt_name: ``query``, ``document`` (default) or a named prompt.
            prompt: a Prompt, a template with ``{text}``, or a plain prefix.
            batch_size: most texts in a batch, besides the token budget.
            show_progress_bar: default on a terminal, when there are many texts.
            progress: called with (done, total) distinct texts, in place of a bar.
            **output: see `Output`.

        Returns:
            float32 ``[d]`` for one text, ``[n, d]`` for a list, in its order.

        Raises:
            InputError: for what is no string, an unknown prompt, sizes below 1, a text that is too
                long for a strict encoder, and NaN or infinity.
        """
        single = isinstance(inputs, str)
        listed = [inputs] if isinstance(inputs, str) else inputs
        texts = as_texts(listed, empty=True, name="inputs").items
        form = Output(**output)
        with text_bar(show_progress_bar, len(set(texts)), progress) as tell:
            vectors = self._rows(texts, self.prompt_for(prompt_name, prompt), batch_size, tell)
        vectors = self.finish(vectors, form.truncate_dim, form.normalize_embeddings)
        return form.convert(vectors, single)

    def encode_query(self, inputs: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the method's query prompt."""
        return self.encode(inputs, **{"prompt_name": "query", **options})

    def encode_document(self, inputs: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the method's document prompt."""
        return self.encode(inputs, **{"prompt_name": "document", **options})

    @arguments(kind=choice("query", "document"), progress=optional(function))
    def raw(
        self, texts: Sequence[str], kind: str = "document", progress: Progress | None = None
    ) -> Float[np.ndarray, "n d"]:
        """Vectors before post-processing.

        Args:
            texts: distinct texts.
            kind: ``query`` or ``document``, whose prompt is used.
            progress: called with (done, total) texts.

        Returns:
            float32 ``[n, d]``.
        """
        vectors = self._embed(texts, self.prompt_for(kind), None, progress or silent)
        return vectors.numpy(force=True)

    def similarity(self, a: Any, b: Any) -> Float[Tensor, "n m"]:
        """Cosine similarities of every row of `a` with every row of `b`."""
        return cosine_matrix(a, b)

    def similarity_pairwise(self, a: Any, b: Any) -> Float[Tensor, " n"]:
        """Cosine similarities of matching rows."""
        return cosine_pairs(a, b)

    def get_embedding_dimension(self) -> int:
        """How many numbers a vector has, after post-processing."""
        return int(np.atleast_2d(self.encode("a")).shape[1])

    @arguments(kind=text, dimension=optional(whole(least=1)), shrinkage=optional(real(0, 1)))
    def fit_post(
        self,
        kind: str,
        texts: Sequence[str] | Texts | None = None,
        dimension: int | None = None,
        shrinkage: float | None = None,
    ) -> Post:
        """Fit a post-processing and use it from now on.

        Args:
            kind: ``center``, ``project_mean``, ``zscore``, ``whiten`` or ``embed_filter``.
            texts: calibration texts, never evaluated ones; default passages of Wikipedia, as many
                as `calibration_for` says. ``embed_filter`` needs none.
            dimension: see `fit` and `embed_filter`.
            shrinkage: see `fit`.

        Returns:
            The fit, saved as ``post-KIND-SIGNATURE.safetensors`` beside the layer-set file when
            the encoder came from one on this machine.

        Raises:
            InputError: as `fit`.
        """
        if kind in TEXTLESS:
            post = filter_of(self, dimension)
        else:
            if texts is None:
                texts = calibration_for(kind, self._width())
            items = as_texts(texts).items
            with text_bar(None, len(set(items)), None) as tell:
                vectors = self._rows(items, self.prompt_for(), None, tell).numpy(force=True)
            post = fit(vectors, kind, self.signature, dimension, shrinkage)
        if self.folder is not None and not is_fetched(self.folder):
            post.save(post_file(self.folder, kind, self.signature))
        self.post = post
        return post

    @arguments(truncate_dim=optional(whole(least=1)), unit=flag)
    def finish(
        self, vectors: Float[Tensor, "n d"], truncate_dim: int | None = None, unit: bool = False
    ) -> Float[Tensor, "n k"]:
        """What follows on raw vectors.

        Args:
            vectors: as `raw` makes them.
            truncate_dim: keep so many leading dimensions of the post-processed vectors.
            unit: make what is left of unit length.

        Returns:
            The finished vectors.
        """
        post = self.post  # read once: another thread may fit one now
        if post is not None:
            vectors = post(vectors)
        vectors = vectors[:, :truncate_dim]
        return normalize(vectors, dim=-1) if unit else vectors

    def tokenize(self, texts: Sequence[str], prompt: Prompt) -> list[TokenizedText]:
        """Prompted texts as the method tokenizes them, within the encoder's limits."""
        return self.method.tokenize(self.lm, texts, prompt, self.max_length, self.limits.strict)

    @arguments(name=optional(text), prompt=optional(a((str, Prompt), "a text or a Prompt")))
    def prompt_for(self, name: str | None = None, prompt: str | Prompt | None = None) -> Prompt:
        """The prompt that keywords of sentence-transformers mean, see `prompt_meant`."""
        return prompt_meant(self.method, name, prompt)

    def _width(self) -> int:
        """How many numbers a raw vector has."""
        return self._embed([], self.prompt_for(), None, silent).shape[1]

    def _rows(
        self, texts: Sequence[str], prompt: Prompt, batch_size: int | None, progress: Progress
    ) -> Float[Tensor, "n d"]:
        """Raw vectors of texts, in their order; equal ones are embedded once."""
        return each_once(texts, lambda each: self._embed(each, prompt, batch_size, progress))

    def _embed(
        self, texts: Sequence[str], prompt: Prompt, batch_size: int | None, progress: Progress
    ) -> Float[Tensor, "n d"]:
        """Raw vectors of distinct texts, in their order."""
        if not texts:  # no row, but the width of all others
            return self._embed([""], prompt, None, silent)[:0]
        tokenized = self.tokenize(texts, prompt)
        self._truncated.set(sum(text.truncated for text in tokenized))
        return embed_batches(self.lm, self.method, tokenized, self.room, batch_size, progress)


an_encoder = a(Encoder, "an Encoder")
"""The check of a parameter that is an encoder."""
