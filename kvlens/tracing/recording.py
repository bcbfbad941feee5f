"""Recording: what the final token of each text holds, as a trace in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from kvlens.models.batch_budget import batch_budget
from kvlens.models.language_model import LanguageModel, a_model
from kvlens.store.checking import (
    arguments,
    choice,
    flag,
    function,
    layer_list,
    names,
    optional,
    text,
)
from kvlens.store.progress import Progress, silent
from kvlens.store.provenance import versions
from kvlens.texts.limits import BATCH_TOKENS, LimitOptions, Limits
from kvlens.texts.prompts import DEFAULT_DOCUMENT, Prompt, as_prompt
from kvlens.texts.texts import Texts, as_texts
from kvlens.texts.token_hash import token_hash
from kvlens.tracing.kinds import KEEP, Points
from kvlens.tracing.recorder import Recorder
from kvlens.tracing.request import Request
from kvlens.tracing.spans import LAST
from kvlens.tracing.trace import Trace


@arguments(
    lm=a_model,
    points=text,
    keep=names,
    layers=optional(layer_list),
    patterns=flag,
    padding_side=choice("left", "right"),
    progress=optional(function),
    tokens=names,
)
def record(
    lm: LanguageModel,
    texts: Texts | Sequence[str],
    prompt: str | Prompt = DEFAULT_DOCUMENT,
    points: Points = "last",
    keep: Sequence[str] = KEEP,
    layers: Sequence[int] | None = None,
    patterns: bool = False,
    padding_side: str = "right",
    progress: Progress | None = None,
    tokens: Sequence[str] = (LAST,),
    **limits: Unpack[LimitOptions],
) -> Trace:
    """Record states of `texts`.

    Args:
        lm: the model.
        texts: without their prompt.
        prompt: its name, a template, or the prompt itself.
        points: which hidden states: the ``last`` token's, the ``mean`` over real tokens, or
            ``all`` real tokens'. K and V are always the final real token's.
        keep: which states to hold in memory: of `KEEP`, and ``q``, ``z``, ``attn_out``, for which
            all is read in raw transformers, patterns left out.
        layers: block indices; default all.
        patterns: keep attention weights too (n x n each).
        padding_side: ``left`` or ``right``.
        progress: called with (texts done, texts).
        tokens: whose keys and values are kept beside the final token's: ``first``, ``text`` (all of
            the text without its prompt), 0-based places such as ``5`` or ``-2`` in the prompted
            text, or spans such as ``3-7``, both ends among them. All is then read in raw
            transformers.
        **limits: `max_length` (default the model's context; longer texts are truncated and
            counted), `strict` (refuse them instead), `batch_tokens` (default 2,048, and on
            CUDA as many as fit; they are halved where memory is short).

    Returns:
        The trace, texts in their order.

    Raises:
        InputError: on bad input, on NaN or infinity in the activations, inside a `with reroute`
            block, and for a model in train mode.
    """
    bounds = Limits.of(limits, batch_budget(lm, BATCH_TOKENS))
    texts = as_texts(texts)
    prompt = as_prompt(prompt)
    request = Request.of(lm.info, points, keep, layers, patterns, tokens)
    recorder = Recorder.of(lm, prompt, request, bounds, padding_side)
    tokenized = recorder.tokenized(texts.items)
    buffers = recorder.recorded(tokenized, progress or silent)
    buffers.keep_position_zero()
    return Trace(
        model=lm.info,
        prompt=prompt,
        texts=texts.info(),
        points=points,
        layers=request.layers,
        n_tokens=tuple(len(text.ids) for text in tokenized),
        n_truncated=sum(text.truncated for text in tokenized),
        tensors=buffers.tensors,
        versions=versions(),
        token_hashes=tuple(token_hash(text.ids) for text in tokenized),
    )
