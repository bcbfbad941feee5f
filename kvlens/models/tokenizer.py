"""Tokenizer: read from its folder's own files, and held against the model's vocabulary.

It knows no weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvlens.models.foreign import named_files
from kvlens.store.arguments import refusal
from kvlens.store.errors import InputError, shortened

FAR_BEYOND = 4096  # ids that far above the vocabulary are damage, whatever the token
MARKS = ("bos_token_id", "eos_token_id", "pad_token_id")  # ids that kvlens itself puts into a batch


def a_tokenizer(name: str, value: Any) -> Any:
    """The check of a parameter that is a tokenizer of transformers."""
    from transformers import PreTrainedTokenizerBase

    if not isinstance(value, PreTrainedTokenizerBase):
        raise refusal(name, value, "a tokenizer of transformers")
    return value


def read_tokenizer(source: str, folder: Path | None, options: dict[str, Any]) -> Any:
    """A model's tokenizer.

    Args:
        source: a folder or a hub id.
        folder: with its files, where they are on this machine.
        options: of transformers.

    Returns:
        The tokenizer.
    """
    from transformers import AutoTokenizer

    not_followed = named_files(folder) if folder else {}
    return AutoTokenizer.from_pretrained(source, **options, **not_followed)


def refuse_ids_beyond(tokenizer: Any, config: Any, what: str) -> None:
    """Refuse a tokenizer with ids that the model has no embedding for.

    Special tokens may lie beyond (Gemma 3's picture token does): kvlens reads those that stand in a
    text as plain text. Ids far beyond never do.

    Args:
        tokenizer: of transformers.
        config: of transformers.
        what: was loaded, for the message.

    Raises:
        InputError: with a token that is beyond, or when the tokenizer knows no letter.
    """
    if not tokenizer.tokenize("a"):  # transformers before 5.22 drops a vocabulary it cannot read
        raise InputError(f"the tokenizer of {what} makes no token of 'a': copy its files again")
    n_embeddings = getattr(config.get_text_config(), "vocab_size", None)
    if n_embeddings is None:
        return
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(str(token) for token in added if token.special)}
    for token, number in tokenizer.get_vocab().items():
        is_plain = token not in special
        if number >= n_embeddings and (is_plain or number >= 2 * n_embeddings + FAR_BEYOND):
            _refuse(token, number, n_embeddings, what)
    for mark in MARKS:
        number = getattr(tokenizer, mark)
        if number is not None and not 0 <= number < n_embeddings:
            _refuse(mark, number, n_embeddings, what)


def _refuse(token: str, number: int, n_embeddings: int, what: str) -> None:
    raise InputError(
        shortened(
            f"the tokenizer of {what} has id {number} ({shortened(token, 40)!r}), the model embeds "
            f"{n_embeddings} tokens: the two do not belong together"
        )
    )
