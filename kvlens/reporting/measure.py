"""Measure: what a run lacks, measured and saved beside the rest."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from kvlens.analysis.attention import (
    attention_patterns,
    attention_shift,
)
from kvlens.analysis.method_geometry import measure
from kvlens.models.language_model import LanguageModel
from kvlens.reporting.run_folder import Run
from kvlens.store.errors import InputError
from kvlens.texts.texts import Texts
from kvlens.texts.tokens import tokenize
from kvlens.texts.wikipedia import calibration_texts

SHOWN, LONGEST = (
    3,
    256,
)  # texts that the browser gets when they are measured here, and their most tokens


# Two readings of one early word, which the end of the sentence decides, and a word that comes back.
EXAMPLES = (
    "The bank was muddy, so we sat higher up and watched the river.",
    "The bank was unsure, so it asked for a second signature on the loan.",
    "What she had packed for the island was a knife, a mirror and a rope, and she lost the rope.",
)


Bars = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


def _measure(run: Run, lm: Any, texts: Texts | None, n: int, bars: Bars, command: str) -> bool:
    """Measure and save what is missing and needs the model; whether anything was."""
    chosen, folder, wanted = run.layers, run.folder / "attention", bool(run.layers.layers)
    missing = {"patterns": wanted and not (run.patterns and texts is None)}
    missing |= {
        "shift": wanted and not (run.shift and texts is None),
        "geometry": run.geometry is None,
    }
    if not any(missing.values()):
        return False
    try:
        lm = lm if isinstance(lm, LanguageModel) else lm()
    except InputError as error:
        raise InputError(f"{error}; or give --no-model, for a page of what is there") from error
    if not lm.info.same_weights(chosen.model):
        raise InputError(
            f"{lm.info.name} is no longer the model of this run (revision {lm.info.revision[:19]})"
        )
    request = (chosen.layers, chosen.bias, chosen.position, chosen.prompts.document)
    if missing["patterns"]:
        items = EXAMPLES if texts is None else texts.items
        lengths = [
            len(t.ids) for t in tokenize(lm.tokenizer, items, request[-1], lm.info.max_positions)
        ]
        short = [text for text, length in zip(items, lengths, strict=True) if length <= LONGEST][
            :SHOWN
        ]
        if not short:
            raise InputError(
                f"every text has more than {LONGEST} tokens: give at least one shorter, for the browser"
            )
        results = [attention_patterns(lm, text, *request) for text in short]
        for old in folder.glob("patterns-*.safetensors"):
            old.unlink()
        for i, result in enumerate(results, 1):
            result.save(folder / f"patterns-{i}.safetensors")
    if missing["shift"]:
        with bars("attention shift") as bar:
            # The prompt's tokens are the same in every text, and position 0 is the attention sink.
            shift = attention_shift(
                lm, texts or calibration_texts(n), *request, span="text", progress=bar
            )
        shift.save(folder / "shift.safetensors")
    if missing["geometry"]:
        many = texts if texts and len(texts) >= 20 else calibration_texts(max(n, 20))
        with bars("embedding geometry") as bar:
            geometry = measure(lm, chosen, texts=many, progress=bar, command=command)
        geometry.save(run.folder / "geometry.json")
    return True
