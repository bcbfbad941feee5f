"""Word lens: what the final token's values write, its states and the embedding say, in words.

For each text the tokens that a state favours are read (see `vocabulary`), and counted: how many are
the text's own words (see `own_words`), and how many are another text's. A state that sums a text up
says its words or words of its kind; one that says the same of every text does not.

What all texts share, the end of the prompt above all, can hide what is said of one. So each state
is read twice: as it is, and centred, less its mean over the texts.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import model_validator

from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.bounds import Size
from kvlens.store.facts import facts_html, facts_text, picture_of
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo

Kind = Literal["hidden", "v", "embedding"]
"""The residual stream after a block; what the values write there; the vector of the text."""

NAMES = {
    "v": "what the values write",
    "hidden": "hidden state",
    "embedding": "embedding",
}
"""Kind -> its name."""

INTERVAL = 1.96  # standard errors to either side: 95 % of a normal distribution


class Place(Record):
    """Where a state is read.

    Attributes:
        kind: of state.
        layer: the block; None of the embedding.
        head: the query head; None: all together.
        centred: whether the states are less their mean over the texts.
    """

    kind: Kind
    layer: int | None
    head: int | None
    centred: bool


class WordShare(Place):
    """How many of the tokens that one state favours are words of its text; means over texts.

    Attributes:
        own: share of the favoured tokens that are the text's own words.
        own_sd: its standard deviation over texts; 0 for one text.
        other: the same share for the words of another text, mean over all others; None for one
            text.
        gain_sd: standard deviation over texts of own - other; None for one text.
        common: the tokens that are favoured for most texts.
        common_share: for which share of the texts.
    """

    own: float
    own_sd: float
    other: float | None
    gain_sd: float | None
    common: tuple[str, ...]
    common_share: tuple[float, ...]

    @property
    def gain(self) -> float | None:
        """How much more the text's own words are favoured than another text's."""
        return None if self.other is None else self.own - self.other


class TopWords(Place):
    """The tokens that one state of one text favours, the first one most.

    Attributes:
        text: which of the shown texts.
        tokens: as text.
        weights: the softmax over all tokens of what the model makes of this state alone.
        own: which are words of the text.
    """

    text: int
    tokens: tuple[str, ...]
    weights: tuple[float, ...]
    own: tuple[bool, ...]


class WordLens(JsonArtifact):
    """What a model's final token says in words, layer by layer; one JSON file.

    Attributes:
        model: whose states they are.
        prompt: around every text.
        texts: where the texts come from.
        top: how many tokens are counted for each state.
        shares: of every kind, layer and head.
        shown: the beginnings of the first texts.
        words: what their states favour.
        skipped: what could not be read, and why.
        embeddings: sha256 of their float64 bytes, or None.
        versions: package -> version.
        command: the command line; empty in a notebook.
    """

    what: ClassVar[str] = "a word lens"
    again: ClassVar[str] = "compute the lens again"
    format: Literal["kvlens.word-lens"] = "kvlens.word-lens"
    version: Literal[1] = 1
    model: ModelInfo
    prompt: Prompt
    texts: TextsInfo
    top: Size
    shares: tuple[WordShare, ...]
    shown: tuple[str, ...]
    words: tuple[TopWords, ...]
    skipped: tuple[str, ...]
    embeddings: str | None
    versions: dict[str, str]
    command: str

    @model_validator(mode="after")
    def _consistent(self) -> WordLens:
        if self.texts.n < 1:
            raise ValueError("it is of no texts")
        places: tuple[Place, ...] = (*self.shares, *self.words)
        for each in places:
            if (each.layer is None) != (each.kind == "embedding"):
                raise ValueError(f"{each.kind} of layer {each.layer}: only an embedding has none")
            if each.layer is not None:
                self.model.check_layers([each.layer])
        for words in self.words:
            lengths = {len(words.tokens), len(words.weights), len(words.own)}
            if len(lengths) > 1 or not 0 <= words.text < len(self.shown):
                raise ValueError(f"the words of text {words.text} do not go together")
        return self

    def shares_of(
        self, kind: str, centred: bool = False, head: int | None = None
    ) -> tuple[WordShare, ...]:
        """Shares of one kind, layers ascending.

        Args:
            kind: ``hidden``, ``v`` or ``embedding``.
            centred: of states less their mean over the texts.
            head: of what one query head writes; None: of all together.
        """
        wanted = (kind, centred, head)
        return tuple(each for each in self.shares if (each.kind, each.centred, each.head) == wanted)

    def words_of(
        self, text: int, kind: str, centred: bool = False, head: int | None = None
    ) -> tuple[TopWords, ...]:
        """What the states of one shown text favour, layers ascending; see `shares_of`."""
        wanted = (text, kind, centred, head)
        return tuple(
            each for each in self.words if (each.text, each.kind, each.centred, each.head) == wanted
        )

    def half_interval(self, share: WordShare) -> float | None:
        """Half the 95 % interval of a gain, by the normal law; None for one text."""
        if share.gain_sd is None:
            return None
        return INTERVAL * share.gain_sd / math.sqrt(self.texts.n)

    def _facts(self) -> tuple[str, dict[str, str], list[str]]:
        facts = {
            "texts": f"{self.texts.n}, {self.texts.source}; prompt {self.prompt.name}",
            "read": f"the {self.top} tokens that each state favours; own: words of its text, "
            "other: of another text",
        }
        for kind, name in NAMES.items():
            best = max(
                self.shares_of(kind, centred=True), key=lambda each: each.gain or 0, default=None
            )
            if best is not None:
                facts[kind] = f"{name}{_at(best)}: {share_words(self, best)} (the most, centred)"
        return f"word lens: {self.model.name}", facts, list(self.skipped)

    def __str__(self) -> str:
        return facts_text(*self._facts())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        picture = picture_of(self, "share of the text's own words by layer")
        return facts_html(*self._facts(), picture)


def _at(share: WordShare) -> str:
    return "" if share.layer is None else f" at layer {share.layer}"


def share_words(lens: WordLens, share: WordShare) -> str:
    """A share in words, with what is expected by chance and the interval of the difference."""
    own = f"own {share.own:.2f}"
    half = lens.half_interval(share)
    if share.other is None or half is None:
        return own
    gain = share.own - share.other
    return f"{own}, other {share.other:.2f}, difference {gain:.2f} ± {half:.2f}"
