"""Adapter: an encoder as a model of mteb."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.encoder import Encoder, an_encoder
from kvlens.embedding.spec import REFERENCE, MethodSpec
from kvlens.evaluation.csls import CSLSIndex
from kvlens.evaluation.kinds import import_mteb
from kvlens.evaluation.model_meta import model_meta
from kvlens.store.checking import a, arguments, function, members, optional
from kvlens.store.errors import InputError
from kvlens.store.progress import Progress


@arguments(
    encoder=an_encoder,
    cache=optional(a(EmbeddingCache, "an EmbeddingCache")),
    facts=optional(a(Mapping, "a dict")),
    progress=optional(function),
    beside=members(an_encoder, "encoders"),
    about=optional(a(Mapping, "a dict")),
)
def mteb_encoder(
    encoder: Encoder,
    cache: EmbeddingCache | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    beside: Sequence[Encoder] = (),
    about: Mapping[str, Any] | None = None,
) -> Any:
    """`encoder` as a model of mteb, for ``mteb.evaluate(mteb_encoder(encoder), tasks)``.

    Queries get the query prompt, documents and the texts of symmetric tasks the document prompt.
    All that decides a score, and `facts`, is hashed into ``mteb_model_meta.experiment_kwargs``, by
    which mteb files its results, and written out in ``loader_kwargs``.

    Args:
        encoder: What embeds.
        cache: Where each distinct text's vector is kept.
        facts: What else decides a score, such as a limit.
        progress: Called with (done, missing) distinct texts.
        beside: Encoders that are evaluated on the same tasks: a pass that serves them is run once.
        about: What its leaderboard is told that only people know, see `model_meta.ABOUT`: licence,
            languages, training data, a paper. It decides no score.

    Returns:
        mteb's AbsEncoder; its vectors are float32 ``[n, d]`` in the order of the texts.

    Raises:
        InputError: Without the package mteb (extra ``kvlens[eval]``), and for `about` as
            `model_meta` does.
    """
    import_mteb()
    adapter = _adapter_class()(encoder, cache or EmbeddingCache(), progress, beside)
    # What mteb calls to load the model by its name.
    loader = {"loader": lambda *args, **options: adapter}
    meta = model_meta(encoder, facts or {}, about or {})
    adapter.mteb_model_meta = meta.model_copy(update=loader)
    return adapter


def texts_of(inputs: Any, task_metadata: Any) -> list[str]:
    """The texts in the batches that mteb hands to a model; raises InputError for what is none."""
    texts = [text for batch in inputs for text in batch["text"]]
    for text in texts:
        if not isinstance(text, str):
            raise InputError(f"a text of {task_metadata.name} is {text}, no string")
    return texts


def kind_of(prompt_type: Any) -> Literal["query", "document"]:
    """Whose prompt the texts get that mteb calls so; None: those of symmetric tasks."""
    from mteb.types import PromptType

    return "query" if prompt_type == PromptType.query else "document"


@functools.cache
def _adapter_class() -> type:
    """The adapter, made at first use: importing mteb takes five seconds."""
    from mteb.models.abs_encoder import AbsEncoder

    class KVLensEncoder(AbsEncoder):
        def __init__(
            self,
            encoder: Encoder,
            cache: EmbeddingCache,
            progress: Progress | None,
            beside: Sequence[Encoder],
        ):
            self.model = encoder
            self.cache = cache
            self.progress = progress
            self.beside = beside

        def encode(self, inputs: Any, *, prompt_type: Any = None, **options: Any) -> Any:
            texts = texts_of(inputs, options["task_metadata"])
            kind = kind_of(prompt_type)
            raw = self.cache.encode(self.model, texts, kind, self.progress, self.beside)
            return self.model.finish(torch.from_numpy(raw), None, False).numpy()

    return KVLensEncoder


def by_csls(model: Any) -> Any:
    """A model of `mteb_encoder` that ranks documents by CSLS, see `csls.CSLSIndex`."""
    from mteb.models import SearchEncoderWrapper

    return SearchEncoderWrapper(model, index_backend=CSLSIndex())


def register(name: str) -> Any:
    """Enter ``kvlens/MODEL:METHOD:key=value`` into mteb's registry.

    For mteb's command line and ``mteb.get_model``: ``python -m kvlens.evaluation run -m NAME -t
    TASK`` is ``mteb run`` with that.

    Args:
        name: A model as for `kvlens.load`, and a method with its settings; without a method,
            kv_embedding.

    Returns:
        The entry, mteb's ModelMeta.

    Raises:
        InputError: For a model or a method that is not there.
    """
    from mteb.models.model_implementations import MODEL_REGISTRY

    from kvlens.models.loading import load

    place, _, spec = name.removeprefix("kvlens/").partition(":")
    encoder = MethodSpec.parse(spec or REFERENCE).encoder(load(place))
    MODEL_REGISTRY[name] = mteb_encoder(encoder).mteb_model_meta
    return MODEL_REGISTRY[name]
