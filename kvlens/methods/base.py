"""Training-free embedding methods: one file, one method; a file in this folder is found and registered by itself."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch

import kvlens.methods
from kvlens.methods.pooling import POOLINGS
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.texts.prompts import PROMPTS, Prompt
from kvlens.texts.tokens import TokenBatch, TokenizedText, tokenize


@dataclass(frozen=True)
class Method:
    """A method: prompts, how a text becomes tokens, and how a batch becomes vectors.

    A new one sets `name` and `source` and overrides what differs; its dataclass fields are its settings, and they
    are recorded with every result. query, document: the prompts. pooling: see `kvlens.pooling`.
    takes_layers: it re-routes, and has the fields layers, bias and position.
    """

    name: ClassVar[str] = ""
    source: ClassVar[str] = ""
    takes_layers: ClassVar[bool] = False

    query: Prompt = PROMPTS["raw"]
    document: Prompt = PROMPTS["raw"]
    pooling: str = "last"

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise InputError(f"unknown pooling {self.pooling!r}: give one of {', '.join(POOLINGS)}")

    def for_model(self, lm: LanguageModel) -> Method:
        """The method with every setting that depends on the model filled in; raises InputError if impossible."""
        return self

    def tokenize(
        self,
        lm: LanguageModel,
        texts: Sequence[str],
        prompt: Prompt,
        max_length: int,
        strict: bool = False,
    ) -> list[TokenizedText]:
        """Texts -> ids; what does not fit into `max_length` tokens is cut off the text, never off the prompt."""
        return tokenize(lm.tokenizer, texts, prompt, max_length, strict)

    def embed(self, lm: LanguageModel, batch: TokenBatch) -> torch.Tensor:
        """Vectors ``[batch, d]`` of a padded batch."""
        return POOLINGS[self.pooling](final_hidden(lm, batch), batch)

    def settings(self) -> dict[str, Any]:
        """Every setting, as plain values."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: v.model_dump() if isinstance(v, Prompt) else v for k, v in values.items()}


def final_hidden(lm: LanguageModel, batch: TokenBatch) -> torch.Tensor:
    """Hidden states after the final norm ``[batch, seq_len, d_model]``, without the LM head."""
    return run_base(lm, batch).last_hidden_state


def relative(lm: LanguageModel, depth: float) -> int:
    """A layer count given as a share of the depth, rounded to this model's own."""
    return round(depth * lm.info.n_layers)


def layers_between(lm: LanguageModel, depth: tuple[float, float]) -> range:
    """The layers between two shares of the depth, at least one. Raises InputError where there are none."""
    problem = InputError(f"depth needs two shares of the layers, 0 <= from <= to <= 1, not {depth}")
    try:
        first, end = (relative(lm, share) for share in depth)
    except (TypeError, ValueError):
        raise problem from None
    if not 0 <= depth[0] <= depth[1] <= 1 or first == lm.info.n_layers:
        raise problem
    return range(first, max(end, first + 1))


def methods() -> dict[str, type[Method]]:
    """Every method by name: each class below `Method` that sets a name of its own."""
    for module in pkgutil.iter_modules(kvlens.methods.__path__):
        importlib.import_module(f"kvlens.methods.{module.name}")
    classes, found = [Method], []
    while classes:
        below = classes.pop().__subclasses__()
        classes += below
        found += [cls for cls in below if "name" in vars(cls)]
    return {cls.name: cls for cls in sorted(found, key=lambda cls: cls.name)}


def takes_layers(name: str) -> bool:
    """Whether the named method re-routes layers that are handed to it; an unknown one does not."""
    known = methods()
    return name in known and known[name].takes_layers


def get_method(name: str, **settings: Any) -> Method:
    """The named method with the given settings. Raises InputError for an unknown name or setting."""
    known = methods()
    if name not in known:
        raise InputError(f"unknown method {name!r}: give one of {', '.join(known)}")
    try:
        return known[name](**settings)
    except TypeError as error:
        allowed = ", ".join(field.name for field in fields(known[name]))
        raise InputError(
            f"{name}: {str(error).split('() ')[-1]}; its settings are {allowed}"
        ) from error
