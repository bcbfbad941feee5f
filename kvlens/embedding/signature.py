"""Signature: a hash by which stored vectors and fits know what made them."""

from __future__ import annotations

import hashlib
import json

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
    settings = method.settings()
    for name in settings:
        own = getattr(method, name)
        if isinstance(own, Prompt):
            settings[name] = own.deciding
    identity = [model.revision, model.tokenizer, model.dtype]
    facts = json.dumps([*identity, method.name, settings, max_length])
    plain = json.loads(facts, parse_int=float)  # 1 in place of 1.0 changes no vector
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]
