"""`kvlens attend`: attention is measured, saved and drawn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvlens.analysis.attention import (
    AttentionPatterns,
    AttentionShift,
    attention_patterns,
    attention_shift,
)
from kvlens.plots.saving import save_attention_plots
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.texts import Texts


def attend(
    lm: LanguageModel,
    layers: Any,
    folder: str | Path,
    text: str | None = None,
    texts: Texts | None = None,
    prompt: str | None = None,
    force: bool = False,
    **options: Any,
) -> AttentionShift | AttentionPatterns:
    """`kvlens attend`: one text in full, or a corpus, written to `folder` as .safetensors, PNG and PDF.

    layers: a LayerSet or its file (bias, position and document prompt come along), or block indices. options: of
    `attention_patterns` or `attention_shift`. Raises InputError as they and `Encoder`.
    """
    from kvlens.embedding.encoder import Encoder

    if (text is None) == (texts is None):
        raise InputError("give either one text or a file of texts")
    method: Any = Encoder(lm, "kv_embedding", layers, force=force).method
    request = (method.layers, method.bias, method.position, prompt or method.document)
    result: AttentionShift | AttentionPatterns
    if text is not None:
        result = attention_patterns(lm, text, *request, **options)
    else:
        result = attention_shift(lm, texts or (), *request, **options)
    result.save(Path(folder) / ("shift.safetensors" if text is None else "patterns.safetensors"))
    save_attention_plots(result, folder)
    return result
