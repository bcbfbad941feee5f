"""Prompt meant: the keywords of sentence-transformers, `prompt_name` and `prompt`, as a prompt."""

from __future__ import annotations

from kvlens.methods.base import Method
from kvlens.store.errors import InputError
from kvlens.texts.prompts import PROMPTS, Prompt, from_template


def prompt_meant(
    method: Method, name: str | None = None, prompt: str | Prompt | None = None
) -> Prompt:
    """The prompt that the keywords mean; a text means one in the chat of the method's prompts.

    Args:
        method: whose prompts are called ``query`` and ``document``.
        name: ``query``, ``document`` (default), or one of `PROMPTS`.
        prompt: a Prompt, a template with ``{text}`` or a plain prefix; goes before `name`.

    Returns:
        The prompt.

    Raises:
        InputError: for an unknown name, and a template with more than one ``{text}``.
    """
    if isinstance(prompt, Prompt):
        return prompt
    chat = method.document.chat
    if prompt is not None:
        template = "{text}" in prompt
        plain = from_template(prompt) if template else Prompt(name="prefix", prefix=prompt)
        return plain.in_chat(chat)
    named = {name: plain.in_chat(chat) for name, plain in PROMPTS.items()}
    known = {**named, "query": method.query, "document": method.document}
    name = name or "document"
    if name not in known:
        choices = ", ".join(PROMPTS)
        raise InputError(f"unknown `prompt_name` {name!r}: give query, document, or {choices}")
    return known[name]
