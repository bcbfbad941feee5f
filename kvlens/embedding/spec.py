"""Spec: one grammar for a method with its settings, and the label that a table shows."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kvlens.embedding.encoder import Encoder
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.texts.prompts import get_prompt

REFERENCE, NO_REROUTING = "kv_embedding", "kv_embedding:layers=none"


def _encoder(lm: LanguageModel, spec: str, layers: Any, options: Mapping[str, Any]) -> Encoder:
    name, *pairs = spec.strip().split(":")
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise InputError(f"cannot read {spec!r}: settings are written as in {NO_REROUTING}")
        settings[key] = _value(key, text)
    if name != REFERENCE:
        return Encoder(lm, name, **options, **settings)
    own = settings.pop("layers", None)
    encoder = Encoder(lm, name, own if layers is None else layers, **options, **settings)
    return (
        encoder
        if own is None
        else Encoder(lm, replace(encoder.method, **{"layers": own}), **options)
    )


def _value(key: str, text: str) -> Any:
    if key in ("query", "document"):
        return get_prompt(text)
    with contextlib.suppress(ValueError):
        if key != "layers":
            return json.loads(text)
        parts = [part.split("-") for part in text.split("+")] if text != "none" else []
        if all(len(part) <= 2 and int(part[0]) <= int(part[-1]) for part in parts):
            return tuple(i for part in parts for i in range(int(part[0]), int(part[-1]) + 1))
    if key == "layers":
        raise InputError(f"layers={text}: give none, or layers such as 7-10 or 7+9")
    return text


def _label(spec: str) -> str:
    name, *pairs = spec.strip().split(":")
    words = ["no re-routing" if pair == "layers=none" else pair.replace("=", " ") for pair in pairs]
    return f"{name} ({', '.join(words)})" if words else name
