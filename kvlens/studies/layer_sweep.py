"""Layer sweep: the quality of embeddings when re-routing a window at every depth.

1. per batch one plain forward pass, whose hidden states at the block boundaries are kept; 2. for every set of layers
only the blocks from its lowest one on are run again, re-routed; 3. quality is the Spearman correlation of cosines
with human scores, on validation pairs; 4. all sets are compared on the same bootstrap draws of the pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from torch.nn.functional import normalize

from kvlens.evaluation.significance import draws, spearman
from kvlens.methods.pooling import POOLINGS
from kvlens.models.info import ModelInfo
from kvlens.models.language_model import LanguageModel
from kvlens.rerouting.partial_pass import LayerBias, final_states
from kvlens.rerouting.prefix import check_request
from kvlens.store.artifact import JsonArtifact, Record
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase
from kvlens.store.provenance import versions
from kvlens.texts.pairs import Pairs
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, get_prompt
from kvlens.texts.tokens import batches, tokenize


class Window(Record):
    """Quality with re-routed `layers`: Spearman x 100 with its bootstrap 95 % interval over pairs (the draws of
    `score`). first: the lowest layer; width: how many. cosines: of each pair, float32 rounded to 7 digits."""

    first: int
    width: int
    layers: tuple[int, ...]
    bias: float
    spearman: float
    low: float
    high: float
    cosines: tuple[float, ...]


class Sweep(JsonArtifact):
    """windows: layers first to first + width - 1, for every first, width and bias asked for; sets: other layer sets.
    plain: without re-routing. human: the pairs' human scores. data, n_pairs: where the pairs come from, how many."""

    what: ClassVar[str] = "a layer sweep"
    again: ClassVar[str] = "run `kvlens sweep` again"

    format: Literal["kvlens.sweep"] = "kvlens.sweep"
    version: Literal[1] = 1
    model: ModelInfo
    prompt: Prompt
    pooling: str
    position: str
    data: str
    n_pairs: int
    seed: int = 0
    plain: float
    plain_low: float
    plain_high: float
    plain_cosines: tuple[float, ...]
    human: tuple[float, ...]
    windows: tuple[Window, ...]
    sets: tuple[Window, ...] = ()
    versions: dict[str, str]
    command: str

    def find(self, layers: Sequence[int], bias: float) -> Window | None:
        """The result for exactly these layers and this bias, or None."""
        wanted = (tuple(sorted(layers)), bias)
        return next((w for w in (*self.windows, *self.sets) if (w.layers, w.bias) == wanted), None)

    def __str__(self) -> str:
        lines = [
            f"{self.model.name}, {self.n_pairs} pairs of {self.data}, {self.prompt.name}, {self.pooling} pooling",
            f"  {'no re-routing':32} {self.plain:5.1f}  ({self.plain_low:.1f} to {self.plain_high:.1f})",
        ]
        for w in (*self.windows, *self.sets):
            told = f"{phrase(w.layers)}, bias {w.bias:g}"
            lines.append(f"  {told:32} {w.spearman:5.1f}  ({w.low:.1f} to {w.high:.1f})")
        return "\n".join(lines)


def windows(n_layers: int, widths: Sequence[int]) -> list[tuple[int, ...]]:
    """Every run of `width` neighbouring layers, for each width. Raises InputError for a width out of range."""
    if wrong := [width for width in widths if not 1 <= width <= n_layers]:
        raise InputError(f"a window of {wrong[0]} layers does not fit into {n_layers} layers")
    return [tuple(range(i, i + width)) for width in widths for i in range(n_layers - width + 1)]


def embed_sets(
    lm: LanguageModel,
    texts: Sequence[str],
    sets: Sequence[LayerBias],
    poolings: Sequence[str],
    prompt: Prompt = DEFAULT_DOCUMENT,
    position: str = "keep",
    max_length: int | None = None,
    batch_tokens: int = 2048,
    progress: Callable[[int, int], None] | None = None,
) -> torch.Tensor:
    """Vectors of `texts` by each pooling, plain and then with each set: float32 [poolings, 1 + sets, n, d_model].

    progress: called with (texts done, texts). Raises InputError as `reroute`, for an unknown pooling and on NaN.
    """
    for layers, bias in sets:
        check_request(lm, layers, bias, position)
    if unknown := [name for name in poolings if name not in POOLINGS]:
        raise InputError(f"unknown pooling {unknown[0]!r}: give one of {', '.join(POOLINGS)}")
    tokenized = tokenize(
        lm.tokenizer, texts, prompt, min(max_length or lm.info.max_positions, lm.info.max_positions)
    )
    vectors, done = torch.empty((len(poolings), 1 + len(sets), len(texts), lm.info.d_model)), 0
    with torch.inference_mode():
        for batch in batches(tokenized, lm.tokenizer.pad_token_id, batch_tokens, device=lm.device):
            for i, states in enumerate(final_states(lm, batch, sets, position)):
                for j, name in enumerate(poolings):
                    vectors[j, i, batch.rows.cpu()] = POOLINGS[name](states, batch).float().cpu()
            done += len(batch.rows)
            if progress:
                progress(done, len(texts))
    if not bool(torch.isfinite(vectors).all()):
        raise InputError(
            f"NaN or infinity in the embeddings in {lm.info.dtype}: try --dtype float32"
        )
    return vectors


def sweep(
    lm: LanguageModel,
    pairs: Pairs,
    layer_sets: Sequence[Sequence[int]],
    biases: Sequence[float] = (1.0,),
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    pooling: str = "hybrid",
    position: str = "keep",
    data: str = "",
    max_length: int | None = None,
    batch_tokens: int = 2048,
    command: str = "",
    progress: Callable[[int, int], None] | None = None,
    known: Sweep | None = None,
) -> Sweep:
    """Measure every layer set (see `windows`; any others too) with every bias, in one pass over the texts.

    Use validation pairs: what is chosen by these numbers must be proven on other data. progress: called with
    (texts done, texts). known: a sweep of the same model, pairs and settings: what it lacks is measured, and all is
    returned. Raises InputError as `reroute`, for an unknown pooling, no layer set, and when `known` does not fit.
    """
    prompt = get_prompt(prompt) if isinstance(prompt, str) else prompt
    chosen = list(
        dict.fromkeys(
            (tuple(sorted(layers)), float(bias)) for bias in biases for layers in layer_sets
        )
    )
    if not chosen:
        raise InputError("no layer sets to re-route: give at least one, and a bias")
    done = {(w.layers, w.bias): w for w in (*known.windows, *known.sets)} if known else {}
    if known:
        own = (lm.info.same_weights(known.model), tuple(pairs.scores.tolist()) == known.human)
        if not all(
            (*own, (prompt, pooling, position) == (known.prompt, known.pooling, known.position))
        ):
            raise InputError(
                "the sweep to go on with is of another model, other pairs, prompt, pooling or position"
            )
        if not done.keys() <= set(chosen):
            command = f"{known.command} && {command}"
        chosen = [one for one in chosen if one not in done]
        if not chosen:
            return known.model_copy(update={"command": command})
    texts = list(dict.fromkeys([*pairs.first, *pairs.second]))
    (vectors,) = embed_sets(
        lm, texts, chosen, (pooling,), prompt, position, max_length, batch_tokens, progress
    )
    row = {text: i for i, text in enumerate(texts)}
    a, b = (
        normalize(vectors[:, [row[text] for text in side]], dim=-1)
        for side in (pairs.first, pairs.second)
    )
    cosines = np.round((a * b).sum(-1).double().numpy(), 7)
    n = len(pairs.scores)
    quality = spearman(cosines, pairs.scores, np.ones((1, n)))[:, 0]
    low, high = np.nanpercentile(spearman(cosines, pairs.scores, draws(n)), (2.5, 97.5), axis=1)
    found = [*done.values()] + [
        Window(
            first=min(layers, default=0),
            width=len(layers),
            layers=layers,
            bias=bias,
            spearman=quality[i],
            low=low[i],
            high=high[i],
            cosines=tuple(cosines[i].tolist()),
        )
        for i, (layers, bias) in enumerate(chosen, 1)
    ]
    found.sort(key=lambda w: (w.bias, w.width, w.first))
    have = {(w.layers, w.bias) for w in found}
    sizes = range(1, lm.info.n_layers + 1)
    full = {
        (w, b)
        for w in sizes
        for _, b in have
        if have.issuperset((x, b) for x in windows(lm.info.n_layers, [w]))
    }
    together = [
        (w.width, w.bias) in full and w.layers == tuple(range(w.first, w.first + w.width))
        for w in found
    ]
    return Sweep(
        model=lm.info,
        prompt=prompt,
        pooling=pooling,
        position=position,
        data=data,
        n_pairs=n,
        plain=quality[0],
        plain_low=low[0],
        plain_high=high[0],
        plain_cosines=tuple(cosines[0].tolist()),
        human=tuple(pairs.scores.tolist()),
        windows=tuple(w for w, yes in zip(found, together, strict=True) if yes),
        sets=tuple(w for w, yes in zip(found, together, strict=True) if not yes),
        versions=versions(),
        command=command,
    )
