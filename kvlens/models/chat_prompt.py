"""Chat prompt: a prompt as the message of a user, inside the chat template of a model."""

from __future__ import annotations

from typing import TypedDict

from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.checking import arguments, optional, text
from kvlens.store.errors import InputError, shortened
from kvlens.texts.chat_template import chat_of, written_in_chat
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt


class ChatOptions(TypedDict, total=False):
    """The keywords by which functions put the prompts of methods into a chat.

    Attributes:
        chat: inside the model's chat template.
        system: its system line; None: what the template writes by itself.
    """

    chat: bool
    system: str | None


@arguments(lm=a_model, system=optional(text))
def chat(
    lm: LanguageModel, prompt: str | Prompt = DEFAULT_DOCUMENT, system: str | None = None
) -> Prompt:
    """A prompt inside the chat template of a model.

    The prompt with its text is the message of the user, and the final token is the one after which
    the model would answer. The prompt records what the template wrote around it, and that is what
    is used whenever the prompt is. A template that asks for today's date is told 26 July 2024. A
    text is never changed, not even where a template would trim it.

    Args:
        lm: the model.
        prompt: a prompt, its name or a template; one that is in a chat already keeps its system
            line unless another is given.
        system: the system line; None: what the template writes by itself.

    Returns:
        The prompt in the chat.

    Raises:
        InputError: for a model without a chat template, a template that refuses `system` or leaves
            it out, a system line with a special token, and a prompt that the template changes.
    """
    prompt = as_prompt(prompt)
    if system is None and prompt.chat is not None:
        system = prompt.chat.system
    name = lm.info.name
    framed = prompt.in_chat(chat_of(lm.tokenizer, name, system))
    message = f"{prompt.prefix}-{prompt.suffix}"  # a text that no template changes
    if written_in_chat(lm.tokenizer, name, message, system) != framed.render("-"):
        raise InputError(
            f"the chat template of {name} changes the `prompt` {shortened(prompt.name, 60)}: "
            "it must not begin or end with white space, nor hold what the template looks for"
        )
    return framed


def asks_for_chat(chat: bool, system: str | None) -> bool:
    """Whether prompts go into a chat; raises InputError for a system line without one."""
    if system is not None and not chat:
        raise InputError("`system` is the system line of a chat: give it with `chat=True`")
    return chat
