"""Encoder: text in, vectors out, with the conventions of sentence-transformers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvlens.embedding.post import KINDS, Post, fit
from kvlens.layers.layer_set import LayerSet
from kvlens.layers.route import Route, block_indices, check_model
from kvlens.methods.base import Method, get_method, takes_layers
from kvlens.models.info import ModelInfo
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.texts.prompts import PROMPTS, Prompt, from_template
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.tokens import TokenizedText, batches


class Encoder:
    """One method on one model.

    method: a name (see `kvlens.methods`) or a Method. layers: for kv_embedding, a LayerSet or its file (both bring
    bias, position, prompts and pooling along), or block indices. settings: the method's own settings, over those.
    post: ``center``, ``zscore`` or ``whiten`` (fitted before by `fit_post`, kept beside the layer-set file), a file,
    or a Post. max_length: token limit, default the model's context. force: use a layer set or a post-processing that
    was made for another model. truncated: how many distinct texts the last call cut.
    Raises InputError for anything that does not fit together.
    """

    def __init__(
        self,
        lm: LanguageModel,
        method: str | Method = "kv_embedding",
        layers: Route | LayerSet | str | Path | Sequence[int] | None = None,
        post: str | Path | Post | None = None,
        max_length: int | None = None,
        batch_tokens: int = 4096,
        strict: bool = False,
        force: bool = False,
        **settings: Any,
    ):
        self.lm, self.strict, self.batch_tokens = lm, strict, batch_tokens
        self.max_length = min(max_length or lm.info.max_positions, lm.info.max_positions)
        self.folder = Path(layers).parent if isinstance(layers, str | Path) else None
        chosen = LayerSet.load(layers) if isinstance(layers, str | Path) else layers
        if not isinstance(method, str) and chosen is not None:
            raise InputError(
                "layers go with the name of a method; this Method has its own settings"
            )
        if isinstance(method, str):
            if chosen is not None and takes_layers(method):
                settings = {**settings_from(chosen, lm.info, force), **settings}
            method = get_method(method, **settings)
        elif settings:
            method = replace(method, **settings)
        self.method = method.for_model(lm)
        self.truncated = 0
        self.post: Post | None = None
        if post is not None:
            self.post = self._find_post(post, force)

    @property
    def signature(self) -> str:
        """A hash of all that decides a vector before post-processing: model, tokenizer, method, settings, limit."""
        info, method = self.lm.info, self.method
        values = method.settings().items()
        # What a prompt is called changes no vector; nor does 1 in place of 1.0.
        settings = {k: [v["prefix"], v["suffix"]] if isinstance(v, dict) else v for k, v in values}
        facts = [info.revision, info.tokenizer, info.dtype, method.name, settings, self.max_length]
        plain = json.loads(json.dumps(facts), parse_int=float)
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]

    def encode(
        self,
        inputs: str | Sequence[str],
        prompt_name: str | None = None,
        prompt: str | Prompt | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray | torch.Tensor | list[torch.Tensor]:
        """Embed one text (1-D) or a list of texts (2-D, in their order), float32.

        prompt_name: ``query``, ``document`` (default) or a named prompt; prompt: a Prompt, a template with ``{text}``
        or a plain prefix. batch_size: most texts in a batch, besides the token budget. show_progress_bar: default on
        a terminal when there are many texts. Equal texts are embedded once. Raises InputError for what is no string.
        """
        single = isinstance(inputs, str)
        texts = as_texts([inputs] if isinstance(inputs, str) else inputs, empty=True).items
        for name, value in (("batch_size", batch_size), ("truncate_dim", truncate_dim)):
            if value is not None and value < 1:
                raise InputError(f"{name} is {value}; it must be at least 1")
        distinct = list(dict.fromkeys(texts))
        with _bar(show_progress_bar, len(distinct), progress) as tick:
            vectors = self._embed(distinct, self._prompt(prompt_name, prompt), batch_size, tick)
        row = {text: i for i, text in enumerate(distinct)}
        vectors = vectors[[row[text] for text in texts]] if texts else vectors
        vectors = self.finish(vectors, truncate_dim, normalize_embeddings)
        if convert_to_tensor:
            return vectors[0] if single else vectors
        if convert_to_numpy:
            return vectors[0].numpy(force=True) if single else vectors.numpy(force=True)
        return vectors[0] if single else list(vectors)

    def encode_query(self, inputs: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the method's query prompt."""
        return self.encode(inputs, **{"prompt_name": "query", **options})

    def encode_document(self, inputs: str | Sequence[str], **options: Any) -> Any:
        """`encode` with the method's document prompt."""
        return self.encode(inputs, **{"prompt_name": "document", **options})

    def raw(
        self,
        texts: Sequence[str],
        kind: str = "document",
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Vectors of distinct texts before post-processing, float32 ``[n, d]``, with the prompt of `kind`."""
        with _bar(False, len(texts), progress) as tick:
            return self._embed(texts, self._prompt(kind, None), None, tick).numpy(force=True)

    def similarity(self, a: Any, b: Any) -> torch.Tensor:
        """Cosine similarities ``[len(a), len(b)]``."""
        return _unit(a) @ _unit(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> torch.Tensor:
        """Cosine similarities of matching rows, ``[n]``."""
        return (_unit(a) * _unit(b)).sum(-1)

    def get_embedding_dimension(self) -> int:
        return int(np.atleast_2d(self.encode("a")).shape[1])

    def fit_post(
        self,
        kind: str,
        texts: Sequence[str] | Texts,
        dimension: int | None = None,
        shrinkage: float | None = None,
    ) -> Post:
        """Fit a post-processing on `texts` (calibration texts, never evaluated ones) and use it from now on.

        Saved as ``post-KIND-SIGNATURE.safetensors`` beside the layer-set file when the encoder came from one.
        """
        self.post = None
        vectors = self.encode(as_texts(texts).items)
        self.post = fit(np.asarray(vectors), kind, self.signature, dimension, shrinkage)
        if self.folder is not None:
            self.post.save(self._post_file(kind))
        return self.post

    def finish(self, vectors: torch.Tensor, truncate_dim: int | None, unit: bool) -> torch.Tensor:
        """Post-processing, then truncation, then normalization, of raw vectors ``[n, d]``."""
        if self.post is not None:
            vectors = self.post(vectors)
        vectors = vectors[:, :truncate_dim]
        return torch.nn.functional.normalize(vectors, dim=-1) if unit else vectors

    def tokenize(self, texts: Sequence[str], prompt: Prompt) -> list[TokenizedText]:
        return self.method.tokenize(self.lm, texts, prompt, self.max_length, self.strict)

    def _embed(
        self,
        texts: Sequence[str],
        prompt: Prompt,
        batch_size: int | None,
        tick: Callable[[int, int], None],
    ) -> torch.Tensor:
        tokenized = self.tokenize(texts, prompt)
        self.truncated, done = sum(text.truncated for text in tokenized), 0
        rows, parts = [], []
        with torch.inference_mode():
            pad_id = self.lm.tokenizer.pad_token_id
            for batch in batches(
                tokenized, pad_id, self.batch_tokens, batch_size, device=self.lm.device
            ):
                parts.append(self.method.embed(self.lm, batch).float())
                rows.append(batch.rows)
                done += len(batch.rows)
                tick(done, len(texts))
        if not parts:
            return self._embed([""], prompt, None, lambda done, total: None)[:0]
        vectors = torch.cat(parts)[torch.cat(rows).argsort()]
        if not bool(torch.isfinite(vectors).all()):
            raise InputError(
                f"NaN or infinity in the embeddings in {self.lm.info.dtype}: try --dtype float32"
            )
        return vectors.clone()  # a normal tensor: inference tensors cannot be used in training

    def _prompt(self, name: str | None, prompt: str | Prompt | None) -> Prompt:
        if isinstance(prompt, Prompt):
            return prompt
        if prompt is not None:
            return (
                from_template(prompt)
                if "{text}" in prompt
                else Prompt(name="prefix", prefix=prompt)
            )
        known = {**PROMPTS, "query": self.method.query, "document": self.method.document}
        if (name := name or "document") not in known:
            raise InputError(
                f"unknown prompt_name {name!r}: give query, document, or {', '.join(PROMPTS)}"
            )
        return known[name]

    def _post_file(self, kind: str) -> Path:
        return (self.folder or Path()) / f"post-{kind}-{self.signature}.safetensors"

    def _find_post(self, post: str | Path | Post, force: bool) -> Post:
        if isinstance(post, str) and not post.endswith(".safetensors"):
            if post not in KINDS:
                raise InputError(
                    f"unknown post-processing {post!r}: give one of {', '.join(KINDS)}, or its file"
                )
            file = self._post_file(post)
            if not file.exists():
                raise InputError(
                    f"no {post} is fitted for this encoder ({file.name} is missing): call encoder.fit_post({post!r}, "
                    "kvlens.calibration_texts()), or give `kvlens embed` --fit-post"
                )
            post = file
        found = post if isinstance(post, Post) else Post.load(post)
        if found.embedder != self.signature and not force:
            raise InputError(
                "this post-processing was fitted on other embeddings: fit it again, or force=True (--force)"
            )
        return found


def settings_from(
    layers: Route | LayerSet | str | Path | Sequence[int], model: ModelInfo, force: bool = False
) -> dict[str, Any]:
    """The settings that layers bring to a method that takes layers.

    Args:
        layers: a layer set or its file, which bring bias, position, pooling and prompts along; a
            route, which brings bias and position; or block indices alone.
        model: what is re-routed.
        force: take a layer set that was made for another model.

    Returns:
        Keyword arguments of the method, as they are recorded.

    Raises:
        InputError: for a layer set of another model, and layers outside the model or repeated.
    """
    if isinstance(layers, str | Path):
        layers = LayerSet.load(layers)
    if isinstance(layers, LayerSet):
        check_model(layers, model, force)
        prompts = {"query": layers.prompts.query, "document": layers.prompts.document}
        names = ("layers", "bias", "position", "pooling")
        return {**{name: getattr(layers, name) for name in names}, **prompts}
    if isinstance(layers, Route):
        indices = block_indices(layers.layers, model)
        return {"layers": indices, "bias": _plainest(layers.bias), "position": layers.position}
    return {"layers": block_indices(layers, model)}


def _plainest(biases: tuple[float, ...]) -> float | tuple[float, ...]:
    """One number where all layers have the same, as a person would give it; else one a layer."""
    distinct = set(biases) or {1.0}
    return distinct.pop() if len(distinct) == 1 else biases


def _unit(vectors: Any) -> torch.Tensor:
    vectors = torch.as_tensor(
        np.asarray(vectors) if not isinstance(vectors, torch.Tensor) else vectors
    )
    return torch.nn.functional.normalize(torch.atleast_2d(vectors).float(), dim=-1)


@contextlib.contextmanager
def _bar(
    show: bool | None, total: int, callback: Callable[[int, int], None] | None
) -> Iterator[Callable[[int, int], None]]:
    """The caller's own callback, or a progress bar for notebooks and terminals."""
    if callback is not None:
        yield callback
        return
    from tqdm.auto import tqdm

    shown = total > 256 and sys.stderr.isatty() if show is None else show
    with tqdm(total=total, unit="text", disable=not shown) as bar:
        yield lambda done, total: bar.update(done - bar.n) and None
