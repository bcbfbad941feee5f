"""Prompts: templates as data.

A text is placed between `prefix` and `suffix` and is never interpreted; some prompts have it
prepared before, see `preparation`. In a chat, all of it is the
message of the user; `models.chat_prompt` puts it there.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StrictBool, ValidationError

from kvlens.store.arguments import shown
from kvlens.store.artifact import Record, first_problem
from kvlens.store.bounds import at_most
from kvlens.store.errors import InputError, shortened
from kvlens.texts.preparation import prepared
from kvlens.texts.texts import text_problem

MOST_CHARACTERS = 100_000  # on each side of the text; no context holds more

IN_CHAT = "-chat"  # how the name of a prompt in a chat ends

Side = Annotated[str, at_most(MOST_CHARACTERS, "characters")]
"""What stands before or after a text."""


class Chat(Record):
    """What a model's chat template writes around the message of a user.

    Attributes:
        system: the system line that was asked for; None: what the template writes by itself.
        before: the message.
        after: the message, up to where the answer begins.
    """

    system: Side | None = None
    before: Side
    after: Side


class Prompt(Record):
    """One template: ``prefix + text + suffix``. `source` says where it comes from.

    Attributes:
        name: of the template.
        prefix: before the text.
        suffix: after the text.
        source: where it comes from.
        chat: what stands around all of it, see `kvlens.chat`; None: nothing.
        prepare: whether a text is prepared before, see `preparation.prepared`.

    Raises:
        InputError: for a field that is no text.
    """

    name: str
    prefix: Side = ""
    suffix: Side = ""
    source: str = ""
    # Not written where there is none: files and hashes without them stay what they were.
    chat: Chat | None = Field(default=None, exclude_if=lambda chat: chat is None)
    prepare: StrictBool = Field(default=False, exclude_if=lambda prepare: not prepare)

    def __init__(self, **fields: Any):  # a user makes these; other records are made by the code
        for name in ("name", "prefix", "suffix", "source"):
            if name not in fields:
                continue
            problem = text_problem(fields[name])
            if problem:
                raise InputError(f"`{name}` of a prompt {problem}")
        try:
            super().__init__(**fields)
        except ValidationError as error:
            field, _, problem = first_problem(error).partition(": ")
            raise InputError(f"`{field}` of a prompt: {problem}") from None

    @property
    def opening(self) -> str:
        """All that stands before the text."""
        return f"{self.chat.before}{self.prefix}" if self.chat else self.prefix

    @property
    def closing(self) -> str:
        """All that stands after the text."""
        return f"{self.suffix}{self.chat.after}" if self.chat else self.suffix

    @property
    def deciding(self) -> list[str]:
        """What decides how a text becomes tokens: the name and the source do not."""
        around = [self.chat.before, self.chat.after] if self.chat else []
        changing = ["prepare"] if self.prepare else []
        return [self.prefix, self.suffix, *around, *changing]

    def taken(self, text: str) -> str:
        """`text` as it stands in the prompt: prepared, where the prompt says so."""
        return prepared(text) if self.prepare else text

    def prepares(self, prepare: bool) -> Prompt:
        """The same prompt with texts prepared, or not."""
        return self.model_copy(update={"prepare": prepare})

    def render(self, text: str) -> str:
        """`text`, which is prepared already, inside the prompt."""
        return f"{self.opening}{text}{self.closing}"

    def in_chat(self, chat: Chat | None) -> Prompt:
        """The prompt as the message of a chat; itself for None."""
        if chat is None:
            return self
        name = self.name if self.chat else f"{self.name}{IN_CHAT}"
        return self.model_copy(update={"name": name, "chat": chat})


def from_template(template: str, name: str = "custom", source: str = "user") -> Prompt:
    """A prompt from a template.

    Args:
        template: holds ``{text}`` exactly once.
        name: of the prompt.
        source: where it comes from.

    Returns:
        The prompt.

    Raises:
        InputError: for a template without ``{text}`` or with two, and for what is no text.
    """
    problem = text_problem(template)
    if problem:
        raise InputError(f"`prompt` {problem}")
    prefix, mark, suffix = template.partition("{text}")
    if not mark or "{text}" in suffix:
        message = f"a prompt template needs exactly one {{text}}: {template!r}"
        raise InputError(shortened(message))
    return Prompt(name=name, prefix=prefix, suffix=suffix, source=source)


PAPER = "arXiv:2601.01046, compression prompt"
QUOTED = "variant of arXiv:2601.01046 quoted in secondary sources"
PROMPT_EOL = "arXiv:2307.16645, PromptEOL"
AFTER_PROMPT_EOL = "arXiv:2404.03921"
ECHO = "arXiv:2402.15449, zero-shot; {first} is the first copy"

# name, template, source
TEMPLATES = (
    ("kv-document", "Context: {text} Compress the Context in one word:", PAPER),
    ("kv-query", "Query: {text} Compress the Query in one word:", PAPER),
    ("kv-document-quoted", '"Context: {text}" Compress the Context in one word:', QUOTED),
    ("kv-query-quoted", '"Query: {text}" Compress the Query in one word:', QUOTED),
    ("kv-document-inner", 'Context: "{text}" Compress the Context in one word:"', QUOTED),
    ("kv-query-inner", 'Query: "{text}" Compress the Query in one word:"', QUOTED),
    ("prompt-eol", 'This sentence : "{text}" means in one word:"', PROMPT_EOL),
    (
        "cot",
        'After thinking step by step , this sentence : "{text}" means in one word:"',
        AFTER_PROMPT_EOL,
    ),
    (
        "ke",
        "The essence of a sentence is often captured by its main subjects and actions, while "
        "descriptive terms provide additional but less central details. With this in mind , "
        'this sentence : "{text}" means in one word:"',
        AFTER_PROMPT_EOL,
    ),
    (
        "echo-paragraph",
        "Rewrite the following paragraph: {first}\nThe rewritten paragraph: {text}",
        ECHO,
    ),
    ("echo-sentence", "Rewrite the sentence: {first}, rewritten sentence: {text}", ECHO),
)

# Their authors prepare the text.
PREPARING = ("prompt-eol", "cot", "ke")

PROMPTS: dict[str, Prompt] = {"raw": Prompt(name="raw", source="no prompt")}
PROMPTS |= {
    name: from_template(template, name, source).prepares(name in PREPARING)
    for name, template, source in TEMPLATES
}

# Chosen on STS-B validation, 300 pairs evenly spread, re-routed by rule paper, Spearman x 100
# (SmolLM2-135M / Gemma 3 270M): kv-document 63.1 / 79.4, -quoted 68.9 / 75.9, -inner 76.6 / 76.4.
# The paper's own is kv-document.
DEFAULT_DOCUMENT = PROMPTS["kv-document-inner"]
DEFAULT_QUERY = PROMPTS["kv-query-inner"]

# Document prompt -> the query prompt of the same form; the others serve as both.
QUERY_OF = {
    "kv-document": "kv-query",
    "kv-document-quoted": "kv-query-quoted",
    "kv-document-inner": "kv-query-inner",
}


def get_prompt(name: str) -> Prompt:
    """The prompt that a name or a template means.

    Args:
        name: one of `PROMPTS`, or a template that holds ``{text}`` once.

    Returns:
        The prompt.

    Raises:
        InputError: for an unknown name.
    """
    if name in PROMPTS:
        return PROMPTS[name]
    if "{text}" in name:
        return from_template(name)
    names = ", ".join(PROMPTS)
    unknown = shortened(repr(name), 80)
    raise InputError(f"unknown prompt {unknown}: give one of {names}, or a template with {{text}}")


def as_prompt(prompt: str | Prompt, name: str = "prompt") -> Prompt:
    """The prompt itself, or the one that a name or a template means; see `get_prompt`.

    Args:
        prompt: what was given.
        name: of the caller's parameter, for messages.

    Returns:
        The prompt.

    Raises:
        InputError: for an unknown name, and for what is neither a text nor a Prompt.
    """
    if isinstance(prompt, Prompt):
        return prompt
    if isinstance(prompt, str):
        return get_prompt(prompt)
    kind = type(prompt).__name__
    raise InputError(f"`{name}` is {shown(prompt)} ({kind}), not a prompt or its name")


def query_for(document: Prompt) -> Prompt:
    """The query prompt that goes with a document prompt; `DEFAULT_QUERY` for one of the user's."""
    name = document.name.removesuffix(IN_CHAT) if document.chat else document.name
    return PROMPTS.get(QUERY_OF.get(name, name), DEFAULT_QUERY).in_chat(document.chat)
