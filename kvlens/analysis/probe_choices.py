"""Probe choices: texts run through the plain model once, and what its probe queries choose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from kvlens.analysis.probe_tokens import LayerChoices, ProbeTokens, Share
from kvlens.analysis.token_labels import readable_tokens
from kvlens.layers.control import MOST_COLUMNS
from kvlens.layers.route import Route, RouteLike, a_route
from kvlens.models.attention_call import AttentionCall
from kvlens.models.forward import run_base
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.models.short_memory import computed
from kvlens.rerouting.pass_tokens import PassTokens
from kvlens.rerouting.probe_query import not_probed, ranking
from kvlens.store.checking import arguments, flag, function, optional, whole
from kvlens.store.errors import InputError
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import current_command, versions
from kvlens.store.room import Room
from kvlens.texts.batches import TokenBatch, batches
from kvlens.texts.limits import LimitOptions, Limits
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.tokens import tokenize

COMMON = 5  # tokens that are told of all texts together
KINDS = ("final", "text", "text_end", "punctuation")


class ProbeOptions(LimitOptions, total=False):
    """Further keywords of `probe_tokens`."""

    force: bool
    progress: Progress | None


@arguments(
    lm=a_model,
    layers=optional(a_route),
    columns=whole(least=1, most=MOST_COLUMNS),
    force=flag,
    progress=optional(function),
)
def probe_tokens(
    lm: LanguageModel,
    texts: Texts | Sequence[str],
    layers: RouteLike | None = None,
    columns: int = 4,
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    **options: Unpack[ProbeOptions],
) -> ProbeTokens:
    """Ask which tokens a prefix of source ``probe`` would carry, see `rerouting.probe_query`.

    The queries and keys are those of a plain pass; where several layers are re-routed, those above
    the lowest one meet states that it has changed.

    Args:
        lm: the model.
        texts: without their prompt.
        layers: a route, a layer set, its file, or block indices; default: all whose tokens can be
            ranked.
        columns: how many tokens each KV head chooses.
        prompt: its name, a template, or the prompt itself.
        **options: `max_length`, `strict`, `batch_tokens`: see `Limits`. `force`: take a layer set
            that was made for another model. `progress`: called with (texts done, texts).

    Returns:
        Their shares by layer.

    Raises:
        InputError: for layers that cannot be re-routed, or whose tokens cannot be ranked.
    """
    progress = options.pop("progress", None) or silent
    chosen = _layers(lm, layers, options.pop("force", False))
    limits = Limits.of(options)
    texts = as_texts(texts)
    prompt = as_prompt(prompt)
    most = limits.tokens_for(lm.info.max_positions)
    tokenized = tokenize(lm.tokenizer, texts.items, prompt, most, limits.strict)
    tallies = {layer: _Tally(lm.tokenizer) for layer in chosen}
    done = 0
    pad = lm.tokenizer.pad_token_id
    padded = batches(tokenized, pad, limits.batch_tokens, device=lm.device)
    ranked = partial(_places, lm, chosen, columns)
    for batch, by_layer in computed(padded, ranked, Room(limits.batch_tokens)):
        for layer, places in by_layer.items():
            tallies[layer].add(batch, places)
        done += len(batch.rows)
        progress(done, len(texts))
    return ProbeTokens(
        model=lm.info,
        prompt=prompt,
        texts=texts.info(),
        columns=columns,
        layers=tuple(tally.choices(layer) for layer, tally in tallies.items()),
        versions=versions(),
        command=current_command(),
    )


def _layers(lm: LanguageModel, layers: RouteLike | None, force: bool) -> tuple[int, ...]:
    if layers is None:
        able = [layer for layer in lm.anatomy.reroutable if lm.attends_as_cached(layer)]
        if not able:
            raise not_probed(lm.anatomy.key_layers[0], lm.info.name)
        return tuple(able)
    chosen = Route.of(lm.info, layers, force=force, source="probe").layers
    if not chosen:
        raise InputError("`layers` holds none: give at least one")
    for layer in chosen:
        if not lm.attends_as_cached(layer):
            raise not_probed(layer, lm.info.name)
    return chosen


def _places(
    lm: LanguageModel, layers: Sequence[int], columns: int, batch: TokenBatch
) -> dict[int, Int[Tensor, "batch n_kv_heads columns"]]:
    """By layer the tokens that are chosen of a batch."""
    ranked = _tokens(batch).ranked
    found: dict[int, Tensor] = {}

    def choose(module: Any, args: Any, kwargs: Any, layer: int) -> None:
        places = ranking(AttentionCall.of(module, args, kwargs), ranked, columns)
        if places is None:
            raise not_probed(layer, lm.info.name)
        found[layer] = places.cpu()

    with torch.inference_mode(), lm.turn("measurement") as turn:
        for layer in layers:
            turn.before(lm.attention(layer), partial(choose, layer=layer), with_kwargs=True)
        run_base(lm, batch)
    return found


def _tokens(batch: TokenBatch) -> PassTokens:
    return PassTokens(batch.ids, batch.mask.bool(), batch.last, batch.text_mask)


@dataclass
class _Tally:
    """What one layer's probe queries choose of many texts.

    Attributes:
        tokenizer: of the model.
        shares: kind of token -> its share among each text's choices.
        chances: the same among its ranked tokens.
        strings: how often each token is chosen.
    """

    tokenizer: Any
    shares: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    chances: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    strings: Counter[str] = field(default_factory=Counter)

    def add(self, batch: TokenBatch, places: Int[Tensor, "batch n_kv_heads columns"]) -> None:
        """Count a batch."""
        tokens = _tokens(batch)
        ranked = tokens.ranked.cpu()
        for row in range(len(places)):
            real = tokens.real[row].cpu()
            n_ranked = int(ranked[row].sum())
            of_row = places[row, :, :n_ranked].flatten()
            strings = dict(
                zip(
                    real.nonzero().flatten().tolist(),
                    readable_tokens(self.tokenizer, batch.ids[row][tokens.real[row]].tolist()),
                    strict=True,
                )
            )
            self.strings.update(strings[place] for place in of_row.tolist())
            for kind, of_kind in _kinds(tokens, row, strings).items():
                self.shares[kind].append(float(of_kind[of_row].float().mean()))
                self.chances[kind].append(float(of_kind[ranked[row]].float().mean()))

    def choices(self, layer: int) -> LayerChoices:
        """All that was counted."""
        common = self.strings.most_common(COMMON)
        return LayerChoices(
            layer=layer,
            common=tuple(string for string, _ in common),
            common_share=tuple(count / self.strings.total() for _, count in common),
            **{kind: self._share(kind) for kind in KINDS},
        )

    def _share(self, kind: str) -> Share:
        shares = np.array(self.shares[kind])
        spread = float(shares.std(ddof=1)) if len(shares) > 1 else 0.0
        chance = float(np.mean(self.chances[kind]))
        return Share(mean=float(shares.mean()), spread=spread, chance=chance)


def _kinds(
    tokens: PassTokens, row: int, strings: dict[int, str]
) -> dict[str, Bool[Tensor, " seq_len"]]:
    """Which tokens of a row are of each kind."""
    places = torch.arange(tokens.real.shape[1])
    text = tokens.known_text()[row].cpu()
    ends = places[text][-1:]
    marks = [place for place, string in strings.items() if not any(map(str.isalnum, string))]
    return {
        "final": places == int(tokens.last[row]),
        "text": text,
        "text_end": torch.isin(places, ends),
        "punctuation": torch.isin(places, torch.tensor(marks, dtype=torch.long)),
    }
