"""Adapter: an encoder as a model of mteb."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch

from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.spec import REFERENCE, _encoder
from kvlens.evaluation.tasks import import_mteb
from kvlens.store.errors import InputError
from kvlens.store.provenance import versions


def mteb_encoder(
    encoder: Encoder,
    cache: EmbeddingCache | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Any:
    """`encoder` as a model of mteb (its AbsEncoder), for ``mteb.evaluate(mteb_encoder(encoder), tasks)``.

    Queries get the query prompt, documents and the texts of symmetric tasks the document prompt. Vectors are float32
    ``[n, d]`` in the order of the texts; each distinct text is embedded once and kept in `cache`. All that decides a
    score, and `facts`, is hashed into ``mteb_model_meta.experiment_kwargs``, by which mteb files its results, and
    written out in ``loader_kwargs``. Raises InputError without the package mteb (extra ``kvlens[eval]``).
    """
    import_mteb()
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
    from mteb.types import PromptType

    store, info, method, post = (
        cache or EmbeddingCache(),
        encoder.lm.info,
        encoder.method,
        encoder.post,
    )
    # The mean tells the calibration texts; the matrix follows from them up to rounding, which varies with threads.
    fitted = post and [
        post.kind,
        post.n,
        round(post.shrinkage, 6),
        post.matrix.shape,
        _hash(post.mean),
    ]
    full = {"encoder": encoder.signature, "post": fitted, "versions": _versions(), **(facts or {})}
    digest = _hash(json.dumps(full, sort_keys=True).encode())

    class KVLensEncoder(AbsEncoder):
        model = encoder

        def encode(self, inputs: Any, *, prompt_type: Any = None, **options: Any) -> Any:
            texts = [text for batch in inputs for text in batch["text"]]
            if wrong := [text for text in texts if not isinstance(text, str)]:
                raise InputError(
                    f"a text of {options['task_metadata'].name} is {wrong[0]}, no string"
                )
            kind: Any = "query" if prompt_type == PromptType.query else "document"
            raw = torch.from_numpy(store.encode(encoder, texts, kind, progress))
            return encoder.finish(raw, None, False).numpy()

    adapter: Any = KVLensEncoder()
    adapter.mteb_model_meta = ModelMeta.create_empty(
        {
            "loader": lambda *args, **options: adapter,
            "loader_kwargs": {
                "settings": method.settings(),
                "max_length": encoder.max_length,
                **full,
            },
            "name": f"kvlens/{Path(info.name).name}",
            "revision": info.revision.removeprefix("sha256:")[:40],
            "max_tokens": encoder.max_length,
            "framework": ["PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "experiment_kwargs": {
                "method": method.name,
                "post": post and post.kind,
                **(facts or {}),
                "hash": digest,
            },
        }
    )
    return adapter


def _versions() -> dict[str, str]:
    return versions() | {"mteb": importlib.metadata.version("mteb")}


def _hash(content: Any) -> str:
    return sha256(content).hexdigest()[:16]


def register(name: str) -> Any:
    """Enter ``kvlens/MODEL:METHOD:key=value`` into mteb's registry, for its command line and ``mteb.get_model``.

    ``python -m kvlens.evaluation run -m NAME -t TASK`` is ``mteb run`` with that. Returns the ModelMeta.
    """
    from mteb.models.model_implementations import MODEL_REGISTRY

    from kvlens.models.loading import load

    place, _, spec = name.removeprefix("kvlens/").partition(":")
    MODEL_REGISTRY[name] = mteb_encoder(
        _encoder(load(place), spec or REFERENCE, None, {})
    ).mteb_model_meta
    return MODEL_REGISTRY[name]
