"""Word reading: texts run through the model once, and what their final tokens hold read as words.

1. Record hidden states and values of the final token.
2. Project each through `W_O` (values), the final norm and the head, layer by layer.
3. Keep the tokens that come first, and count whose words they are.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kvlens.analysis.geometry import as_points
from kvlens.analysis.head_writes import LayerWrites, head_writes
from kvlens.analysis.own_words import OwnWords, Words
from kvlens.analysis.vocabulary import Vocabulary
from kvlens.analysis.word_lens import Place, TopWords, WordLens, WordShare
from kvlens.analysis.word_states import WordStates
from kvlens.models.info import ModelInfo
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.checking import arguments, flag, function, optional, whole
from kvlens.store.errors import InputError, shortened
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import current_command, versions
from kvlens.texts.limits import BATCH_TOKENS, Limits
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.tokens import tokenize
from kvlens.tracing.recording import record

COMMON = 5  # tokens that are told of all texts together
LONGEST_EXCERPT = 300  # characters of a text that is shown
DIGITS = 6  # of weights


class WordOptions(TypedDict, total=False):
    """Further keywords of `word_lens`."""

    max_length: int | None
    strict: bool
    batch_tokens: int | None
    progress: Progress | None


@arguments(
    lm=a_model,
    normed=flag,
    top=whole(least=1),
    shown=whole(least=0),
    heads=flag,
    progress=optional(function),
)
def word_lens(
    lm: LanguageModel,
    texts: Texts | Sequence[str],
    embeddings: Any = None,
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    normed: bool = True,
    top: int = 10,
    shown: int = 2,
    heads: bool = True,
    **options: Unpack[WordOptions],
) -> WordLens:
    """Read as words what the final token of each text holds, after one plain pass.

    The hidden state after each block; what the values of each layer write into the residual stream
    where a query attends to the final token alone, by query head and summed; the embeddings.

    Args:
        lm: the model.
        texts: without their prompt.
        embeddings: ``[n, d_model]``, row i of text i, of any method whose vector is of the model's
            width; each is given the length of its text's final state after the final norm.
        prompt: its name, a template, or the prompt itself.
        normed: whether `embeddings` come from states after the final norm, as those of every method
            but ``aligned_wva`` do; else the norm is applied here.
        top: as how many tokens a state is read.
        shown: of how many texts, the first ones, the tokens themselves are kept.
        heads: read what each query head writes, too: centred, of several texts.
        **options: `max_length`, `strict`, `batch_tokens`: see `Limits`. `progress`: called with
            (states read, states in all).

    Returns:
        The lens.

    Raises:
        InputError: as `kvlens.record`, for embeddings of another number or width, for more tokens
            than the model has, and where its states cannot be read as words.
    """
    progress = options.pop("progress", None) or silent
    limits = Limits.of(options, BATCH_TOKENS)
    max_length = limits.tokens_for(lm.info.max_positions)
    texts = as_texts(texts)
    prompt = as_prompt(prompt)
    if top > lm.info.vocab_size:
        raise InputError(f"`top` is {top}, {lm.info.name} has {lm.info.vocab_size} tokens")
    vectors = None if embeddings is None else _vectors(embeddings, len(texts), lm.info)
    vocabulary = Vocabulary.of(lm)
    writes, skipped = _writes(lm)
    trace = record(lm, texts, prompt, keep=("hidden", "v"), **options)
    words = Words(lm.tokenizer)
    own = OwnWords(words, tokenize(lm.tokenizer, texts.items, prompt, max_length, limits.strict))
    states = WordStates(trace, vocabulary, writes, vectors, normed, heads)
    reader = _Reader(vocabulary, words, own, top, min(shown, len(texts)))
    for done, (place, normed_states) in enumerate(states.all(), 1):
        reader.read(place, normed_states)
        progress(done, states.n_most)
    progress(states.n_most, states.n_most)
    return WordLens(
        model=lm.info,
        prompt=prompt,
        texts=texts.info(),
        top=top,
        shares=tuple(reader.shares),
        shown=tuple(shortened(text, LONGEST_EXCERPT) for text in texts.items[:shown]),
        words=tuple(reader.words),
        skipped=(*skipped, *states.skipped),
        embeddings=None if vectors is None else hashlib.sha256(vectors.tobytes()).hexdigest(),
        versions=versions(),
        command=current_command(),
    )


def _vectors(embeddings: Any, n: int, info: ModelInfo) -> Float[np.ndarray, "n d_model"]:
    """Embeddings as float64, one a text and as wide as the model."""
    vectors = as_points(embeddings, 1, "`embeddings`")
    if vectors.shape != (n, info.d_model):
        raise InputError(
            f"`embeddings` are {list(vectors.shape)}, not [{n}, {info.d_model}]: give one a text, "
            "of a method whose vectors are as wide as the model"
        )
    return vectors


def _writes(lm: LanguageModel) -> tuple[dict[int, LayerWrites], list[str]]:
    """The way of each layer's values; none, and why, where it cannot be told."""
    try:
        return head_writes(lm), []
    except InputError as error:
        return {}, [str(error)]


class _Reader:
    """Reads states as tokens, and keeps what they say.

    Attributes:
        shares: a row a place.
        words: a row a place and shown text.
    """

    def __init__(self, vocabulary: Vocabulary, words: Words, own: OwnWords, top: int, shown: int):
        """A reader of so many tokens a state, that keeps those of the first texts."""
        self._vocabulary = vocabulary
        self._words = words
        self._own = own
        self._top = top
        self._shown = shown
        self.shares: list[WordShare] = []
        self.words: list[TopWords] = []

    def read(self, place: Place, normed: Float[Tensor, "n d_model"]) -> None:
        """Read the states of one place, a row a text."""
        tokens, weights = self._favoured(normed)
        own = self._own.own(tokens)
        self.shares.append(self._share(place, tokens, own))
        for text in range(self._shown):
            strings = tuple(map(self._words.string, tokens[text].tolist()))
            rounded = tuple(weights[text].round(DIGITS).tolist())
            self.words.append(
                TopWords(
                    text=text,
                    tokens=strings,
                    weights=rounded,
                    own=tuple(own[text].tolist()),
                    **dict(place),
                )
            )

    def _favoured(
        self, normed: Float[Tensor, "n d_model"]
    ) -> tuple[Int[np.ndarray, "n top"], Float[np.ndarray, "n top"]]:
        """The tokens of highest weight, and their weights."""
        tokens: list[Tensor] = []
        weights: list[Tensor] = []
        for logits in self._vocabulary.batches(normed):
            largest = logits.topk(self._top)
            tokens.append(largest.indices)
            weights.append((largest.values - logits.logsumexp(1, keepdim=True)).exp())
        return torch.cat(tokens).numpy(), torch.cat(weights).double().numpy()

    def _share(
        self, place: Place, tokens: Int[np.ndarray, "n top"], own: Bool[np.ndarray, "n top"]
    ) -> WordShare:
        by_text = own.mean(1)
        common = Counter(token for row in tokens.tolist() for token in row).most_common(COMMON)
        measured: dict[str, Any] = {"other": None, "gain_sd": None, "own_sd": 0.0}
        if len(tokens) > 1:
            others = self._own.others(tokens).mean(1)
            measured["other"] = float(others.mean())
            measured["gain_sd"] = float((by_text - others).std(ddof=1))
            measured["own_sd"] = float(by_text.std(ddof=1))
        return WordShare(
            own=float(by_text.mean()),
            common=tuple(self._words.string(token) for token, _ in common),
            common_share=tuple(count / len(tokens) for _, count in common),
            **measured,
            **dict(place),
        )
