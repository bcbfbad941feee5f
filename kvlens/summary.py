"""Rule ``summary``: the window whose re-routing makes the mean of all tokens say what the final token says.

It needs no labels and no profile, but the model: 1. re-route every window of neighbouring layers on unlabelled texts;
2. compare the mean of all tokens with the PLAIN final token's state, both less what all texts share; 3. take the
window of the highest mean cosine, or no layer where none beats the plain pass. So a window counts by what re-routing
is for, early tokens that carry the summary, and one that breaks an attention sink or blurs the texts loses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import floor
from typing import Any

import numpy as np
from torch.nn.functional import cosine_similarity

from kvlens.dimension import IDProfile
from kvlens.files import InputError
from kvlens.layers import LayerSet, RuleParameters, Z, select
from kvlens.models import LanguageModel
from kvlens.prompts import DEFAULT_DOCUMENT, Prompt
from kvlens.records import phrase
from kvlens.sweep import embed_sets, windows
from kvlens.texts import Texts, as_texts

TEXTS, LEAST = 64, 20  # texts taken, and needed at least


def summary_transfer(
    lm: LanguageModel,
    texts: Texts | Sequence[str],
    layer_sets: Sequence[Sequence[int]],
    bias: float = 1.0,
    position: str = "keep",
    prompt: Prompt = DEFAULT_DOCUMENT,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Cosine, for the plain pass and then each layer set, of each text's mean over all real tokens with the plain
    pass's final-token state (after the final norm), both less their mean over the texts: float64 [1 + sets, n].

    Raises InputError as `reroute`, and for fewer than 20 distinct texts.
    """
    items = list(dict.fromkeys(as_texts(texts).items))
    if len(items) < LEAST:
        raise InputError(f"{len(items)} distinct texts, at least {LEAST} are needed: give more")
    sets = [(tuple(layers), bias) for layers in layer_sets]
    means, finals = embed_sets(lm, items, sets, ("mean", "last"), prompt, position, progress=progress)
    means, final = (x.double() - x.double().mean(-2, keepdim=True) for x in (means, finals[:1]))
    return cosine_similarity(means, final, dim=-1).numpy()


def select_by_summary(
    lm: LanguageModel,
    profile: IDProfile,
    texts: Texts | Sequence[str],
    window: float = 0.10,
    *,
    bias: float = 1.0,
    position: Any = "keep",
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> LayerSet:
    """Choose 1 + floor(window * n_layers) neighbouring layers, or none, by `summary_transfer` on 64 of the `texts`.

    profile: goes into the layer set, and gives the prompt; the choice does not depend on its ID. options: as in
    `select`. Costs as much as embedding the texts about n_layers / 2 times. Raises InputError as `summary_transfer`
    and `select`.
    """
    if not profile.model.same_weights(lm.info):
        raise InputError(f"the profile is of {profile.model.name}, the model is {lm.info.name}: profile this model")
    parameters = RuleParameters(window=window)
    candidates = windows(lm.info.n_layers, [1 + floor(round(window * lm.info.n_layers, 9))])
    base = select(profile, "explicit", layers=(), bias=bias, position=position, **options)
    items = as_texts(texts).items[:TEXTS]
    found = summary_transfer(lm, items, candidates, bias, position, base.prompts.document, progress)
    layers = ((), *candidates)[int(found.mean(1).argmax())]
    gap = found[int(found.mean(1).argmax())] - found  # per text, so that differences are paired
    close = gap.mean(1) <= Z * gap.std(1, ddof=1) / np.sqrt(found.shape[1])
    rivals = [c for c, near in zip(candidates, close[1:], strict=True) if near and c != layers]
    best, plain = found.mean(1).max(), found[0].mean()
    reason = (
        f"Re-routing {phrase(layers)} brings the mean of the tokens nearest to the plain final token's state, beyond "
        f"what all texts share: cosine {best:.2f}, without re-routing {plain:.2f} ({len(candidates)} windows, "
        f"{found.shape[1]} texts)."
    )
    if not layers:
        reason = (
            f"No window of {len(candidates[0])} layers brings the mean of the tokens nearer to the plain final "
            f"token's state than it is without re-routing (cosine {plain:.2f}, {found.shape[1]} texts)."
        )
    warnings = [f"not clearly better than {phrase(rival)}" for rival in rivals[:3]]
    warnings += ["not clearly better than no re-routing"] if layers and close[0] else []
    changes = {"layers": layers, "rule": "summary", "parameters": parameters, "branch": "summary transfer"}
    return base.model_copy(update={**changes, "reason": reason, "warnings": tuple(warnings)})
