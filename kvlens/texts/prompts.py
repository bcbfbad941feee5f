"""Prompts: templates as data. A text is placed between `prefix` and `suffix` and is never interpreted."""

from __future__ import annotations

from kvlens.store.artifact import Record
from kvlens.store.errors import InputError


class Prompt(Record):
    """One template: ``prefix + text + suffix``. `source` says where it comes from."""

    name: str
    prefix: str = ""
    suffix: str = ""
    source: str = ""

    def render(self, text: str) -> str:
        return f"{self.prefix}{text}{self.suffix}"


def from_template(template: str, name: str = "custom", source: str = "user") -> Prompt:
    """A Prompt from a string with exactly one ``{text}``. Raises InputError otherwise."""
    prefix, mark, suffix = template.partition("{text}")
    if not mark or "{text}" in suffix:
        raise InputError(f"a prompt template needs exactly one {{text}}: {template!r}")
    return Prompt(name=name, prefix=prefix, suffix=suffix, source=source)


_PAPER = "arXiv:2601.01046, compression prompt"
_QUOTED = "variant of arXiv:2601.01046 quoted in secondary sources"

PROMPTS: dict[str, Prompt] = {
    prompt.name: prompt
    for prompt in (
        Prompt(name="raw", source="no prompt"),
        from_template("Context: {text} Compress the Context in one word:", "kv-document", _PAPER),
        from_template("Query: {text} Compress the Query in one word:", "kv-query", _PAPER),
        from_template(
            '"Context: {text}" Compress the Context in one word:', "kv-document-quoted", _QUOTED
        ),
        from_template(
            '"Query: {text}" Compress the Query in one word:', "kv-query-quoted", _QUOTED
        ),
        from_template(
            'Context: "{text}" Compress the Context in one word:"', "kv-document-inner", _QUOTED
        ),
        from_template(
            'Query: "{text}" Compress the Query in one word:"', "kv-query-inner", _QUOTED
        ),
        from_template(
            'This sentence : "{text}" means in one word:"',
            "prompt-eol",
            "arXiv:2307.16645, PromptEOL",
        ),
    )
}


# Chosen on STS-B validation, 300 pairs evenly spread, re-routed by rule paper, Spearman x 100 (SmolLM2-135M / Gemma 3
# 270M): kv-document 63.1 / 79.4, -quoted 68.9 / 75.9, -inner 76.6 / 76.4. The paper's own is kv-document.
DEFAULT_QUERY, DEFAULT_DOCUMENT = PROMPTS["kv-query-inner"], PROMPTS["kv-document-inner"]

# Document prompt -> the query prompt of the same form; the others serve as both.
QUERY_OF = {
    "kv-document": "kv-query",
    "kv-document-quoted": "kv-query-quoted",
    "kv-document-inner": "kv-query-inner",
}


def get_prompt(name: str) -> Prompt:
    """The named prompt, or one made from a template that contains ``{text}``. Raises InputError."""
    if name in PROMPTS:
        return PROMPTS[name]
    if "{text}" in name:
        return from_template(name)
    raise InputError(
        f"unknown prompt {name!r}: give one of {', '.join(PROMPTS)}, or a template with {{text}}"
    )


def as_prompt(prompt: str | Prompt) -> Prompt:
    """The prompt itself, or the one that a name or a template means; see `get_prompt`."""
    return prompt if isinstance(prompt, Prompt) else get_prompt(prompt)


def query_for(document: Prompt) -> Prompt:
    """The query prompt that goes with a document prompt; `DEFAULT_QUERY` for one of the user's."""
    return PROMPTS.get(QUERY_OF.get(document.name, document.name), DEFAULT_QUERY)
