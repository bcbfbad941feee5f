"""Asked texts: what mteb wants vectors of, and the passes that an evaluation takes for them.

mteb is asked by its own code: it gets a model that notes the texts and draws vectors at random.
"""

from __future__ import annotations

import functools
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kvlens.embedding.cache import EmbeddingCache
from kvlens.embedding.calibration import calibration_for
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.planned_pass import PlannedPass, planned_passes
from kvlens.embedding.post import TEXTLESS
from kvlens.evaluation.adapter import kind_of, texts_of
from kvlens.evaluation.candidates import CALIBRATION, Candidate
from kvlens.evaluation.data import load_data
from kvlens.evaluation.kinds import import_mteb

WIDTH = 8  # of vectors that stand for real ones


def asked_texts(task: Any, limit: int | None) -> dict[str, list[str]]:
    """The texts that mteb wants vectors of, each once, by ``query`` and ``document``.

    Args:
        task: A task of mteb; its data is loaded.
        limit: Only so many items (see `data.load_data`).

    Raises:
        InputError: For data that cannot be used.
    """
    load_data(task, limit)
    model = _listener_class()()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import_mteb().evaluate(
            model,
            task,
            cache=import_mteb().ResultCache(Path(folder)),
            overwrite_strategy="always",
            co2_tracker=False,
            show_progress_bar=False,
        )
    return {kind: list(texts) for kind, texts in model.asked.items() if texts}


@functools.cache
def _listener_class() -> type:
    """The model that only listens, made at first use: importing mteb takes five seconds."""
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder

    class Listener(AbsEncoder):
        def __init__(self) -> None:
            self.mteb_model_meta = ModelMeta.create_empty({"name": "kvlens/listener"})
            self.asked: dict[str, dict[str, None]] = {"query": {}, "document": {}}
            self.rng = np.random.default_rng(0)

        def encode(self, inputs: Any, *, prompt_type: Any = None, **options: Any) -> Any:
            texts = texts_of(inputs, options["task_metadata"])
            self.asked[kind_of(prompt_type)].update(dict.fromkeys(texts))
            return self.rng.normal(size=(len(texts), WIDTH)).astype(np.float32)

    return Listener


@dataclass
class Expected:
    """The passes of an evaluation, gathered task by task.

    Attributes:
        candidates: The methods.
        posts: The post-processings; None: without.
        limit: Most items of a task.
        instructions: Whether mteb's instructions are used.
        cache: Where vectors are kept: what is there is not computed.
        passes: What was gathered.
    """

    candidates: Sequence[Candidate]
    posts: Sequence[str | None]
    limit: int | None
    instructions: bool
    cache: EmbeddingCache
    passes: list[PlannedPass] = field(default_factory=list)
    _known: set[tuple[Path, str]] = field(default_factory=set)

    def add(self, task: Any) -> None:
        """Note what one task of mteb takes, beside those before."""
        encoders = [each.for_task(task, self.instructions) for each in self.candidates]
        for post in self.posts:
            if post is not None and post not in TEXTLESS:
                width = max(encoder.get_embedding_dimension() for encoder in encoders)
                passages = calibration_for(post, width, CALIBRATION)
                self._note(encoders, "document", passages.items)
        for kind, texts in asked_texts(task, self.limit).items():
            self._note(encoders, kind, texts)

    def _note(self, encoders: Sequence[Encoder], kind: Any, texts: Sequence[str]) -> None:
        """The passes for texts that are neither in the cache nor noted before."""
        lacking: dict[tuple[str, ...], list[Encoder]] = {}
        for encoder in encoders:
            place = self.cache.place(encoder, kind)
            missing = self.cache.missing(encoder, kind, texts)
            new = tuple(text for text in missing if (place, text) not in self._known)
            self._known.update((place, text) for text in new)
            if new:
                lacking.setdefault(new, []).append(encoder)
        for some, group in lacking.items():
            self.passes += planned_passes(group, kind, some)
