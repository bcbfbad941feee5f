"""Probe tokens: which tokens of a text a probe query ranks highest, layer by layer: a result."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from kvlens.layers.control import MOST_COLUMNS
from kvlens.models.info import ModelInfo
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.bounds import Count, within
from kvlens.store.errors import printable
from kvlens.store.facts import text_of_lines
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo

Part = Annotated[float, within(0, 1)]


class Share(Record):
    """How many of the chosen tokens are of one kind; over texts.

    Attributes:
        mean: of the share among a text's choices: KV heads times columns.
        spread: its standard deviation (ddof 1); 0 for one text.
        chance: mean of the share among all tokens that are ranked.
    """

    mean: Part
    spread: Part
    chance: Part

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.spread:.2f} ({self.chance:.2f})"


class LayerChoices(Record):
    """What one layer's probe queries choose.

    Attributes:
        layer: block index.
        final: the final token, whose key and value the paper re-routes.
        text: the text's own tokens; all others are the prompt's.
        text_end: the last of them.
        punctuation: tokens without a letter or digit.
        common: the tokens that are chosen most, as text.
        common_share: their share of all choices.
    """

    layer: Count
    final: Share
    text: Share
    text_end: Share
    punctuation: Share
    common: tuple[str, ...]
    common_share: tuple[Part, ...]


class ProbeTokens(JsonArtifact):
    """Which tokens would stand in a prefix of source ``probe``; one JSON file.

    Attributes:
        model: whose queries and keys they are, in a plain pass.
        prompt: around every text.
        texts: where the texts come from.
        columns: how many tokens each KV head chooses.
        layers: one entry each, ascending.
        versions: package -> version.
        command: the command line; empty in a notebook.
    """

    what: ClassVar[str] = "a choice of probe tokens"
    again: ClassVar[str] = "rank the tokens again"

    format: Literal["kvlens.probe-tokens"] = "kvlens.probe-tokens"
    version: Literal[1] = 1
    model: ModelInfo
    prompt: Prompt
    texts: TextsInfo
    columns: Annotated[int, within(1, MOST_COLUMNS)]
    layers: tuple[LayerChoices, ...] = Field(min_length=1)
    versions: dict[str, str]
    command: str

    @model_validator(mode="after")
    def _consistent(self) -> ProbeTokens:
        if self.texts.n < 1:
            raise ValueError("it is of no texts")
        self.model.check_layers([each.layer for each in self.layers])
        for each in self.layers:
            if len(each.common) != len(each.common_share):
                raise ValueError(f"tokens and shares of layer {each.layer} do not go together")
        return self

    def __str__(self) -> str:
        title = (
            f"{self.model.name}: the {self.columns} tokens that a probe query ranks highest, "
            f"{self.texts.n} texts; share ± SD over texts (by chance)"
        )
        return text_of_lines([title, HEAD, *map(_line, self.layers)])


HEAD = f"{'layer':>5}  {'final token':19} {'end of text':19} {'text':19} {'punctuation':19} most"


def _line(each: LayerChoices) -> str:
    shares = (each.final, each.text_end, each.text, each.punctuation)
    most = " ".join(f"{printable(repr(token))} {share:.2f}" for token, share in _most(each))
    return f"{each.layer:>5}  {' '.join(f'{share!s:19}' for share in shares)} {most}".rstrip()


def _most(each: LayerChoices) -> list[tuple[str, float]]:
    return list(zip(each.common, each.common_share, strict=True))[:3]
