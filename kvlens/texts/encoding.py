"""Encoding: prompted texts -> ids, and the characters that each id stands for.

Special-token strings stay plain text, but for those that a chat template writes around a message.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from kvlens.store.errors import InputError, one_line
from kvlens.store.sharing import lock_of
from kvlens.texts.prompts import Chat, Prompt

SAMPLE = "sample"  # a message without anything special


class Encoding(NamedTuple):
    """Ids, and the characters of the rendered prompt that each stands for."""

    ids: list[int]
    offsets: list[tuple[int, int]]


def encode(tokenizer: Any, texts: Sequence[str], prompt: Prompt) -> list[Encoding]:
    """Encode prompted texts.

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: without their prompt.
        prompt: placed around each.

    Returns:
        One per text, in their order. In a chat the control tokens stand for no characters.

    Raises:
        InputError: where the tokenizer fails, and in a chat for a text with a control token that
            this tokenizer cannot read as plain text.
    """
    if not texts:
        return []
    rendered = [prompt.render(text) for text in texts]
    try:
        if prompt.chat is None:
            return _encoded(tokenizer, rendered, split_special_tokens=True)
        return _in_chat(tokenizer, rendered, prompt.chat)
    except InputError:
        raise
    except Exception as error:  # the tokenizers' errors share no base
        raise InputError(f"the tokenizer cannot read the texts: {one_line(error)}") from error


def _encoded(tokenizer: Any, rendered: Sequence[str], **options: Any) -> list[Encoding]:
    with lock_of(tokenizer):  # transformers sets it anew for each call
        encoded = tokenizer(
            list(rendered),
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
            **options,
        )
    rows = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
    return [Encoding(ids, offsets) for ids, offsets in rows]


def _in_chat(tokenizer: Any, rendered: Sequence[str], chat: Chat) -> list[Encoding]:
    """Whole, as transformers encodes a chat, unless a message has control tokens of its own."""
    before, after, *whole = _with_controls(tokenizer, [chat.before, chat.after, *rendered])
    frame = _Frame(tokenizer, chat, before, after, _controls(tokenizer, before.ids + after.ids))
    encodings = []
    for text, encoding in zip(rendered, whole, strict=True):
        if not frame.is_alone_in(encoding):
            encoding = frame.around_plain_text(text)
        encodings.append(frame.without_offsets(encoding))
    return encodings


def _with_controls(tokenizer: Any, rendered: Sequence[str]) -> list[Encoding]:
    options = {"split_special_tokens": False, "add_special_tokens": False}
    return _encoded(tokenizer, rendered, **options)


def _controls(tokenizer: Any, framing: Collection[int]) -> frozenset[int]:
    """Special tokens, and what else a tokenizer has as one token that the template writes.

    White space is none: tokenizers such as Gemma's have line breaks as added tokens.
    """
    added = tokenizer.added_tokens_decoder
    special = {number for number, token in added.items() if token.special}
    written = {number for number in framing if number in added}
    return frozenset(n for n in special | written if not added[n].content.isspace())


@dataclass(frozen=True)
class _Frame:
    """A chat template around messages, as ids.

    Attributes:
        tokenizer: the tokenizer.
        chat: the template's text.
        before: of it.
        after: of it.
        controls: ids that have a meaning of their own in a chat.
    """

    tokenizer: Any
    chat: Chat
    before: Encoding
    after: Encoding
    controls: frozenset[int]

    def is_alone_in(self, whole: Encoding) -> bool:
        """Whether all control tokens are the template's own."""
        return self._seen(whole.ids) == self._seen(self.before.ids + self.after.ids)

    def _seen(self, ids: Sequence[int]) -> list[int]:
        return [token for token in ids if token in self.controls]

    def without_offsets(self, encoding: Encoding) -> Encoding:
        """Control tokens stand for no characters: some swallow white space of the text."""
        rows = zip(encoding.ids, encoding.offsets, strict=True)
        offsets = [(a, a) if token in self.controls else (a, b) for token, (a, b) in rows]
        return Encoding(encoding.ids, offsets)

    def around_plain_text(self, rendered: str) -> Encoding:
        """A message with strings of control tokens, which are read as plain text.

        Raises:
            InputError: where the tokenizer reads them as control tokens even so, or reads a text
                between control tokens in another way than one that stands alone.
        """
        sample = f"{self.chat.before}{SAMPLE}{self.chat.after}"
        (whole,) = _with_controls(self.tokenizer, [sample])
        pieces = self._in_pieces(rendered)
        if self._in_pieces(sample).ids != whole.ids or not self.is_alone_in(pieces):
            self._refuse(rendered)
        return pieces

    def _in_pieces(self, rendered: str) -> Encoding:
        """Up to the last control token before the message, from the first one after it, between."""
        n_head = 1 + max(self._places(self.before), default=-1)
        n_lead = min(self._places(self.after), default=len(self.after.ids))
        head = Encoding(self.before.ids[:n_head], self.before.offsets[:n_head])
        tail = Encoding(self.after.ids[n_lead:], self.after.offsets[n_lead:])
        start = head.offsets[-1][1] if head.ids else 0
        shift = len(rendered) - len(self.chat.after)
        end = shift + tail.offsets[0][0] if tail.ids else len(rendered)
        options = {"split_special_tokens": True, "add_special_tokens": False}
        (body,) = _encoded(self.tokenizer, [rendered[start:end]], **options)
        return Encoding(
            head.ids + body.ids + tail.ids,
            head.offsets + _moved(body.offsets, start) + _moved(tail.offsets, shift),
        )

    def _places(self, encoding: Encoding) -> list[int]:
        return [place for place, token in enumerate(encoding.ids) if token in self.controls]

    def _refuse(self, rendered: str) -> None:
        message = rendered[len(self.chat.before) : len(rendered) - len(self.chat.after)]
        names = self.tokenizer.convert_ids_to_tokens(sorted(self.controls))
        held = next((name for name in names if name in message), "a control token")
        raise InputError(
            f"a text holds {held}, which this tokenizer cannot read as plain text inside its chat "
            "template: leave the text out, or leave out `chat`"
        )


def _moved(offsets: Sequence[tuple[int, int]], by: int) -> list[tuple[int, int]]:
    return [(first + by, after + by) for first, after in offsets]
