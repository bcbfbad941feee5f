"""Chat template: what a tokenizer writes around the one message of a user.

It knows no prompt: a template is run on a message that stands for any, and cut there.
"""

from __future__ import annotations

import datetime
import re
from typing import Any

from kvlens.store.errors import InputError, one_line, shortened
from kvlens.store.notices import notice
from kvlens.texts.prompts import Chat

PLACE = "PlaceOfTheMessage"  # words only: no template escapes or trims them

# What templates are told is today, so that a result is the same tomorrow. Llama's own default.
TODAY = datetime.date(2024, 7, 26)
ASKED = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
TELLING = "{% macro strftime_now(form) %}{{ today_as[form] }}{% endmacro %}\n"


def chat_of(tokenizer: Any, name: str, system: str | None = None) -> Chat:
    """What the chat template of a tokenizer writes around a message.

    Args:
        tokenizer: of transformers.
        name: of the model, for messages.
        system: the system line; None: what the template writes by itself.

    Returns:
        The text before and after the message, up to where the answer begins.

    Raises:
        InputError: for a tokenizer without a chat template, a template that fails or writes the
            message not once, and a system line that it does not write or that holds a special
            token.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(
            f"the tokenizer of {name} has no chat template: give a chat model, or leave out `chat`"
        )
    if system is not None:
        _refuse_special(tokenizer, system)
    rendered = written_in_chat(tokenizer, name, PLACE, system)
    before, _, after = rendered.partition(PLACE)
    if rendered.count(PLACE) != 1:
        raise InputError(
            f"the chat template of {name} writes a message {rendered.count(PLACE)} times, not once:"
            " leave out `chat`"
        )
    if system is not None and system.strip() not in before + after:
        raise InputError(f"the chat template of {name} writes no system line: leave out `system`")
    return Chat(system=system, before=before, after=after)


def notice_other_template(tokenizer: Any, chat: Chat) -> None:
    """Say so where a tokenizer's template writes something else than was recorded."""
    try:
        same = chat_of(tokenizer, "this model", chat.system) == chat
    except InputError:
        same = False
    if not same:
        notice(
            "the chat template of this tokenizer is not the one that the prompt was made with: "
            "what the prompt recorded is used"
        )


def written_in_chat(tokenizer: Any, name: str, message: str, system: str | None = None) -> str:
    """A message with all that the template writes around it.

    Args:
        tokenizer: of transformers, with a chat template.
        name: of the model, for messages.
        message: of the user.
        system: the system line; None: what the template writes by itself.

    Returns:
        The text, up to where the answer begins.

    Raises:
        InputError: for a template that fails.
    """
    turns = [{"role": "user", "content": message}]
    if system is not None:
        turns.insert(0, {"role": "system", "content": system})
    try:
        template = tokenizer.get_chat_template()
        text: str = tokenizer.apply_chat_template(
            turns,
            chat_template=_of_one_day(template),
            tokenize=False,
            add_generation_prompt=True,
            today_as={form: TODAY.strftime(form) for _, form in ASKED.findall(template)},
        )
    except Exception as error:  # a template raises what it likes
        what = "chat" if system is None else "system"
        reason = shortened(one_line(error), 120)
        raise InputError(
            f"the chat template of {name} fails ({reason}): leave out `{what}`"
        ) from error
    return text


def _of_one_day(template: str) -> str:
    """The template, told `TODAY` in place of the day on which it is run."""
    return TELLING + template if "strftime_now" in template else template


def _refuse_special(tokenizer: Any, system: str) -> None:
    added = tokenizer.added_tokens_decoder.values()
    held = [token.content for token in added if token.special and token.content in system]
    if held:
        raise InputError(f"`system` holds the special token {held[0]}: give plain text")
