"""Readout sweep: the quality of embeddings that are read after every block, in one pass a batch.

Quality is the Spearman correlation of cosines with human scores, on validation pairs; all blocks
are compared on the same bootstrap draws of the pairs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Unpack

import numpy as np
from jaxtyping import Float64
from pydantic import model_validator
from torch.nn.functional import normalize

from kvlens.embedding.encoder import Encoder
from kvlens.embedding.passes import batches_together
from kvlens.embedding.spec import NO_REROUTING, MethodSpec
from kvlens.evaluation.significance import draws, interval, spearman
from kvlens.layers.route import RouteLike, a_route
from kvlens.methods.base import Method
from kvlens.models.chat_prompt import ChatOptions
from kvlens.models.info import ModelInfo
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.bounds import Count
from kvlens.store.checking import a, arguments, flag, function, optional, text
from kvlens.store.errors import InputError
from kvlens.store.facts import printed_html, text_of_lines
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import current_command, versions
from kvlens.studies.sweep_vectors import DIGITS, refuse_unrankable
from kvlens.texts.limits import LimitOptions, Limits
from kvlens.texts.pairs import Pairs


class ReadoutOptions(LimitOptions, ChatOptions, total=False):
    """Further keywords of `readout_sweep`: limits, and the chat that prompts are put into."""


class ReadBlock(Record):
    """Quality of what is read after one block, Spearman x 100.

    Attributes:
        block: its 0-based index.
        final_norm: whether the states went through the final norm.
        spearman: correlation with the human scores.
        low: end of its bootstrap 95 % interval over pairs, on the draws of
            `kvlens.evaluation.significance.draws`.
        high: its other end.
        difference: this less the last block after the final norm.
        difference_low: end of the interval of the difference, on the same draws.
        difference_high: its other end.
        cosines: of each pair, rounded to 7 digits; empty where they are left out.
    """

    block: Count
    final_norm: bool
    spearman: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    cosines: tuple[float, ...]


class ReadoutSweep(JsonArtifact):
    """The quality of one method after every block.

    Attributes:
        model: that was run.
        method: as it was asked for, with its settings.
        settings: the method's, without the readout.
        data: where the pairs come from.
        n_pairs: how many.
        human: the pairs' human scores; empty where they are left out.
        blocks: every block, with the final norm and without, by block.
        versions: package -> version.
        command: the command line; empty in a notebook.
    """

    what: ClassVar[str] = "a readout sweep"
    again: ClassVar[str] = "run `kvlens.readout_sweep` again"

    format: Literal["kvlens.readout-sweep"] = "kvlens.readout-sweep"
    version: Literal[1] = 1
    model: ModelInfo
    method: str
    settings: dict[str, Any]
    data: str
    n_pairs: Count
    human: tuple[float, ...]
    blocks: tuple[ReadBlock, ...]
    versions: dict[str, str]
    command: str

    @model_validator(mode="after")
    def _consistent(self) -> ReadoutSweep:
        found = [(each.block, each.final_norm) for each in self.blocks]
        n_layers = self.model.n_layers
        if found != [(block, norm) for block in range(n_layers) for norm in (False, True)]:
            raise ValueError("the blocks are not all of the model, with and without the norm")
        sizes = {len(self.human), *(len(each.cosines) for each in self.blocks)}
        if sizes not in ({self.n_pairs}, {0}):
            raise ValueError("the human scores and cosines are not one a pair")
        return self

    @arguments(final_norm=flag)
    def curve(self, final_norm: bool = True) -> list[ReadBlock]:
        """Every block, by depth."""
        return [each for each in self.blocks if each.final_norm == final_norm]

    @property
    def last(self) -> ReadBlock:
        """The last block after the final norm, what a method reads by default."""
        return self.curve()[-1]

    @property
    def best(self) -> ReadBlock:
        """The block of the best quality: found on these pairs, so its gain is too large."""
        return max(self.blocks, key=lambda each: each.spearman)

    def _repr_html_(self) -> str:
        return printed_html(self, "quality after every block")

    def __str__(self) -> str:
        lines = [f"{self.model.name}, {self.n_pairs} pairs of {self.data}, {self.method}"]
        lines += [_line(f"after block {each.block}", each) for each in self.curve()]
        best = f"best: block {self.best.block}"
        norm = "after" if self.best.final_norm else "before"
        lines.append(_line(f"{best}, {norm} the final norm", self.best))
        gain = f"{self.best.difference:+.1f}"
        ends = f"({self.best.difference_low:.1f} to {self.best.difference_high:.1f})"
        lines.append(f"  {gain} {ends} over the last block, on the pairs that it was found on")
        return text_of_lines(lines)


def _line(name: str, each: ReadBlock) -> str:
    return f"  {name:36} {each.spearman:5.1f}  ({each.low:.1f} to {each.high:.1f})"


@arguments(
    lm=a_model,
    pairs=a(Pairs, "pairs of `kvlens.texts.pairs.read_pairs`"),
    method=a((str, MethodSpec), "the name of a method with its settings"),
    layers=optional(a_route),
    data=text,
    progress=optional(function),
)
def readout_sweep(
    lm: LanguageModel,
    pairs: Pairs,
    method: str | MethodSpec = NO_REROUTING,
    layers: RouteLike | None = None,
    data: str = "",
    progress: Progress | None = None,
    **options: Unpack[ReadoutOptions],
) -> ReadoutSweep:
    """Measure a method after every block, before and after the final norm.

    Use validation pairs: what is chosen by these numbers must be proven on other data.

    Args:
        lm: the model.
        pairs: with their human scores.
        method: a name with settings, such as ``prompt_eol`` or ``mean:document=kv-document``.
        layers: for kv_embedding, a layer set, its file or block indices.
        data: where the pairs come from.
        progress: called with (texts done, texts).
        **options: see `ReadoutOptions`.

    Returns:
        The quality after every block.

    Raises:
        InputError: for a method that cannot be used or reads no hidden states, and where nothing
            can be ranked.
    """
    chat: ChatOptions = {
        "chat": options.pop("chat", False),
        "system": options.pop("system", None),
    }
    spec = MethodSpec.parse(method) if isinstance(method, str) else method
    encoder = spec.encoder(lm, layers, Limits.of(options), **chat)
    places = [(block, norm) for block in range(lm.info.n_layers) for norm in (False, True)]
    plain = encoder.method.read_after(-1, True)
    methods = [plain.read_after(*place).for_model(lm) for place in places]
    refuse_unrankable(pairs)
    cosines = _cosines(encoder, methods, pairs, progress or silent)
    return ReadoutSweep(
        model=lm.info,
        method=spec.method_label,
        settings=json.loads(json.dumps(plain.settings())),  # as they load
        data=data,
        n_pairs=len(pairs.scores),
        human=tuple(pairs.scores.tolist()),
        blocks=_measured(places, cosines, pairs),
        versions=versions(),
        command=current_command(),
    )


def _cosines(
    encoder: Encoder, methods: Sequence[Method], pairs: Pairs, progress: Progress
) -> Float64[np.ndarray, "sets n_pairs"]:
    """The cosine of each pair of texts, by each method."""
    texts = pairs.distinct
    tokenized = encoder.tokenize(texts, encoder.prompt_for())
    sets = batches_together(encoder.lm, methods, tokenized, encoder.room, None, progress)
    row_of = {text: row for row, text in enumerate(texts)}
    first = [row_of[text] for text in pairs.first]
    second = [row_of[text] for text in pairs.second]
    cosines = []
    for vectors in sets:
        unit = normalize(vectors, dim=-1).cpu()
        cosines.append((unit[first] * unit[second]).sum(-1).double().numpy())
    return np.round(np.stack(cosines), DIGITS)


def _measured(
    places: Sequence[tuple[int, bool]], cosines: Float64[np.ndarray, "sets n_pairs"], pairs: Pairs
) -> tuple[ReadBlock, ...]:
    """The quality of each set of cosines; the last one is what the others are compared with."""
    for (block, _), row in zip(places, cosines, strict=True):
        if np.ptp(row) == 0:
            raise InputError(
                f"all cosines are the same after block {block}: nothing can be ranked by them; "
                "give a method of another pooling, or other pairs"
            )
    n = len(pairs.scores)
    whole = spearman(cosines, pairs.scores, np.ones((1, n)))[:, 0]
    resampled = spearman(cosines, pairs.scores, draws(n))
    low, high = interval(resampled)
    differences = whole - whole[-1]
    difference_low, difference_high = interval(resampled - resampled[-1])
    numbers = (whole, low, high, differences, difference_low, difference_high)
    names = ("spearman", "low", "high", "difference", "difference_low", "difference_high")
    blocks = []
    for i, (block, norm) in enumerate(places):
        values = {
            name: float(np.asarray(array)[i]) for name, array in zip(names, numbers, strict=True)
        }
        row = tuple(cosines[i].tolist())
        blocks.append(ReadBlock(block=block, final_norm=norm, **values, cosines=row))
    return tuple(blocks)
