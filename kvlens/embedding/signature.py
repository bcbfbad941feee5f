"""Signature: a hash by which stored vectors and fits know what made them."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from kvlens.methods.base import Method
from kvlens.models.info import ModelInfo
from kvlens.texts.prompts import Prompt


def signature_of(model: ModelInfo, method: Method, max_length: int) -> str:
    """A hash of all that decides a vector before post-processing.

    Args:
        model: its weights, tokenizer and dtype count; its name and device do not.
        method: its name and settings count; what a prompt is called does not.
        max_length: most tokens of a text with its prompt.

    Returns:
        16 hexadecimal digits, the same as in files of version 0.1.0.
    """
    settings = {name: _deciding(value) for name, value in method.settings().items()}
    identity = [model.revision, model.tokenizer, model.dtype]
    facts = json.dumps([*identity, method.name, settings, max_length])
    plain = json.loads(facts, parse_int=float)  # 1 in place of 1.0 changes no vector
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def _deciding(setting: Any) -> Any:
    """The part of a setting that decides vectors."""
    return Prompt(**setting).deciding if isinstance(setting, dict) else setting
