"""`kvlens lens --words`: what states say in words, in files and as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlens.cli.progress import progress

if TYPE_CHECKING:
    from kvlens.analysis.word_lens import TopWords, WordLens, WordShare
    from kvlens.cli.options import LengthOptions
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.texts import Texts

WORD_FILES = ("word_lens.json", "own_words.*", "words_*", "word_heads.*")

KINDS = {"v": "V writes", "hidden": "hidden state"}
TOKENS = 3  # of a cell
LETTERS = 11  # of a token
WORDS = TOKENS * (LETTERS + 1)
LONGEST_TEXT = 90

At = tuple[str, int | None]
"""A kind of state and its layer."""

EMBEDDING: At = ("embedding", None)


def write_words(
    lm: LanguageModel,
    texts: Texts,
    layers: Any,
    force: bool,
    limits: LengthOptions,
    folder: Path,
) -> str:
    """Write the word lens and its pictures; with `layers`, of kv_embedding's vectors, too.

    Returns:
        What was found, for people.
    """
    from kvlens.analysis.word_reading import word_lens
    from kvlens.embedding.encoder import Encoder
    from kvlens.plots.saving import save_word_plots
    from kvlens.texts.prompts import DEFAULT_DOCUMENT

    embeddings = None
    prompt = DEFAULT_DOCUMENT
    if layers is not None:
        encoder = Encoder(lm, "kv_embedding", layers, force=force, max_length=limits.max_length)
        prompt = encoder.method.document
        with progress("embedding") as bar:
            embeddings = encoder.encode(texts.items, progress=bar)
    with progress("reading words", "states") as bar:
        found = word_lens(lm, texts, embeddings, prompt, progress=bar, **asdict(limits))
    found.save(folder / "word_lens.json")
    save_word_plots(found, folder)
    return "\n".join(word_table(found))


def word_table(lens: WordLens) -> Iterator[str]:
    """Lines for people: the first text's words by layer, and whose words they are in all texts.

    Args:
        lens: with at least one shown text.
    """
    from kvlens.store.errors import printable, shortened

    centred = bool(lens.shares_of("hidden", centred=True))
    what = ", less the mean over the texts" if centred else ""
    excerpt = shortened(printable(" ".join(lens.shown[0].split())), LONGEST_TEXT)
    yield f"text 1: {excerpt}"
    yield f"its first tokens{what}, own words as *word*; own: share of the {lens.top} tokens of"
    yield f"highest weight that are the text's own words, mean over {_counted(lens.texts.n)}"
    if lens.texts.n > 1:
        yield "(in brackets: another text's words)"
    yield ""
    yield _line("layer", [(title, "own") for title in KINDS.values()])
    cells = _cells(lens, centred)
    for layer in sorted({layer for _, layer in cells if layer is not None}):
        yield _line(str(layer), [cells.get((kind, layer), ("-", "")) for kind in KINDS])
    if EMBEDDING in cells:
        yield _line("embedding", [cells[EMBEDDING]])
    yield from (f"left out: {reason}" for reason in lens.skipped)


def _counted(n: int) -> str:
    return "1 text" if n == 1 else f"{n} texts"


def _cells(lens: WordLens, centred: bool) -> dict[At, tuple[str, str]]:
    """The first tokens of the first text, and the share of own words of all."""
    cells: dict[At, tuple[str, str]] = {}
    for kind in (*KINDS, "embedding"):
        shares = lens.shares_of(kind, centred)
        for words, share in zip(lens.words_of(0, kind, centred), shares, strict=True):
            cells[kind, words.layer] = _said(words), _share(share)
    return cells


def _said(words: TopWords) -> str:
    tokens = list(zip(words.tokens, words.own, strict=True))[:TOKENS]
    return " ".join(_padded(_token(token, own), LETTERS) for token, own in tokens)


def _share(share: WordShare) -> str:
    chance = "" if share.other is None else f" ({share.other:.2f})"
    return f"{share.own:.2f}{chance}"


def _token(token: str, own: bool) -> str:
    from kvlens.analysis.token_labels import token_label
    from kvlens.store.errors import printable

    word = printable(token_label(token, LETTERS - 2))
    return f"*{word}*" if own else word


def _line(name: str, cells: list[tuple[str, str]]) -> str:
    columns = [f"{_padded(said, WORDS)}{share:12}" for said, share in cells]
    return f"{name:>9}  {' '.join(columns)}".rstrip()


def _padded(text: str, width: int) -> str:
    """Text of so many columns; letters of some scripts take two."""
    from rich.cells import set_cell_size

    return set_cell_size(text, width)
