"""Measure: what a run lacks and its model can tell, measured and saved beside the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvlens.analysis.method_geometry import measure
from kvlens.analysis.uptake import attention_patterns, attention_shift
from kvlens.analysis.word_lens import WordLens
from kvlens.analysis.word_reading import word_lens
from kvlens.embedding.encoder import Encoder
from kvlens.layers.layer_set import LayerSet
from kvlens.models.language_model import LanguageModel
from kvlens.reporting.run_folder import (
    GEOMETRY,
    PATTERNS,
    SHIFT,
    SHIFT_FILE,
    WORDS,
    WORDS_FILE,
    Run,
)
from kvlens.store.errors import InputError
from kvlens.store.progress import Bars, silent_bar
from kvlens.texts.texts import Texts
from kvlens.texts.tokens import tokenize
from kvlens.texts.wikipedia import calibration_texts

BROWSED_TEXTS = 3  # so many texts are shown one by one when they are measured here
BROWSED_TOKENS = 256  # and so many tokens each has at most: a pattern grows with their square
FEWEST_FOR_GEOMETRY = 20  # fewer texts say little about a space

# Two readings of one early word, which the end of the sentence decides, and a word that comes back.
EXAMPLES = (
    "The bank was muddy, so we sat higher up and watched the river.",
    "The bank was unsure, so it asked for a second signature on the loan.",
    "What she had packed for the island was a knife, a mirror and a rope, and she lost the rope.",
)


def measure_missing(
    run: Run,
    lm: LanguageModel | Callable[[], LanguageModel],
    texts: Texts | None = None,
    n: int = 60,
    bars: Bars = silent_bar,
) -> bool:
    """Measure what is missing and needs the model, and save it in the run folder.

    Args:
        run: what there is.
        lm: the run's model, or what loads it, called only if something is to be measured.
        texts: measure attention, again if it is there, on these.
        n: how many Wikipedia passages the averages are over without `texts`.
        bars: what is measured -> a context that gives its progress.

    Returns:
        Whether anything was measured.

    Raises:
        InputError: when the model is not the run's, every text is too long for the browser, and as
            the measurements do.
    """
    wanted = _wanted(run, texts)
    if not wanted:
        return False
    model = lm if isinstance(lm, LanguageModel) else lm()
    _check_model(model, run)
    if PATTERNS in wanted:
        _measure_patterns(run, model, texts)
    if SHIFT in wanted:
        _measure_shift(run, model, texts, n, bars)
    if GEOMETRY in wanted:
        _measure_geometry(run, model, texts, n, bars)
    if WORDS in wanted:
        _measure_words(run, model, texts, n, bars)
    return True


def _wanted(run: Run, texts: Texts | None) -> set[str]:
    wanted = {PATTERNS, SHIFT, GEOMETRY, WORDS}.intersection(run.missing)
    if texts is not None and run.layers.layers:
        wanted |= {PATTERNS, SHIFT}
    return wanted


def _check_model(lm: LanguageModel, run: Run) -> None:
    if not lm.info.same_weights(run.layers.model):
        revision = lm.info.revision[:19]
        raise InputError(f"{lm.info.name} is no longer the model of this run (revision {revision})")


def _measure_patterns(run: Run, lm: LanguageModel, texts: Texts | None) -> None:
    """Patterns of the first short texts; older ones go only when all are measured."""
    candidates = EXAMPLES if texts is None else texts.items
    shown = _short_texts(lm, run.layers, candidates)[:BROWSED_TEXTS]
    rerouting = _rerouting(run.layers)
    results = [attention_patterns(lm, text, **rerouting) for text in shown]
    folder = run.folder / "attention"
    for path in folder.glob("patterns-*.safetensors"):
        path.unlink()
    for number, patterns in enumerate(results, 1):
        patterns.save(folder / f"patterns-{number}.safetensors")


def _short_texts(lm: LanguageModel, layers: LayerSet, texts: tuple[str, ...]) -> list[str]:
    tokenized = tokenize(lm.tokenizer, texts, layers.prompts.document, lm.info.max_positions)
    pairs = zip(texts, tokenized, strict=True)
    short = [text for text, tokens in pairs if len(tokens.ids) <= BROWSED_TOKENS]
    if not short:
        raise InputError(
            f"every text has more than {BROWSED_TOKENS} tokens: "
            "give at least one shorter, for the browser"
        )
    return short


def _measure_shift(run: Run, lm: LanguageModel, texts: Texts | None, n: int, bars: Bars) -> None:
    corpus = calibration_texts(n) if texts is None else texts
    with bars("attention shift") as progress:
        # The prompt's tokens are the same in every text, and position 0 is the attention sink.
        rerouting = _rerouting(run.layers)
        shift = attention_shift(lm, corpus, **rerouting, span="text", progress=progress)
    shift.save(run.folder / SHIFT_FILE)


def _measure_geometry(run: Run, lm: LanguageModel, texts: Texts | None, n: int, bars: Bars) -> None:
    if texts is None or len(texts) < FEWEST_FOR_GEOMETRY:
        texts = calibration_texts(max(n, FEWEST_FOR_GEOMETRY))
    with bars("embedding geometry") as progress:
        geometry = measure(lm, run.layers, texts=texts, progress=progress)
    geometry.save(run.folder / "geometry.json")


def _measure_words(run: Run, lm: LanguageModel, texts: Texts | None, n: int, bars: Bars) -> None:
    corpus = calibration_texts(n) if texts is None else texts
    try:
        lens = _words(run, lm, corpus, bars)
    except InputError:  # `kvlens lens` says what cannot be read as words
        return
    lens.save(run.folder / WORDS_FILE)


def _words(run: Run, lm: LanguageModel, texts: Texts, bars: Bars) -> WordLens:
    encoder = Encoder(lm, "kv_embedding", run.layers)
    with bars("words") as progress:
        embeddings = encoder.encode(texts.items)
        prompt = encoder.method.document
        return word_lens(lm, texts, embeddings, prompt, heads=False, progress=progress)


def _rerouting(layers: LayerSet) -> dict[str, Any]:
    """The re-routing of a layer set's documents, as the measurements of attention take it."""
    return {
        "layers": layers.layers,
        "bias": layers.bias,
        "position": layers.position,
        "prompt": layers.prompts.document,
    }
