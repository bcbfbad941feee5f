"""An encoder as a `SentenceTransformer`."""

from __future__ import annotations

from typing import Any

from kvlens.embedding.encoder import Encoder, an_encoder
from kvlens.store.checking import arguments
from kvlens.store.errors import InputError


@arguments(encoder=an_encoder)
def as_sentence_transformer(encoder: Encoder) -> Any:
    """A real `sentence_transformers.SentenceTransformer` around an encoder.

    For tools that build on that library. ``encode_query`` and ``encode_document`` use the method's
    prompts; another prompt is a prefix or a template. ``encode`` takes several devices, and
    ``output_value="token_embeddings"`` where the method pools hidden states.

    ``save_pretrained(folder)`` writes all of it, the model too. Wherever kvlens is installed,
    ``SentenceTransformer(folder, trust_remote_code=True)`` gives the same vectors: the flag lets
    sentence-transformers import kvlens, and no code of the folder is run.

    Args:
        encoder: what makes the vectors, its post-processing included.

    Returns:
        The `SentenceTransformer`.

    Raises:
        InputError: without the package sentence-transformers (extra ``kvlens[st]``).
    """
    try:
        # Optional, and seconds to import.
        from sentence_transformers import SentenceTransformer

        from kvlens.embedding.sentence_module import PROMPT_MARKERS, EncoderModule
    except ImportError as error:
        raise InputError("this needs sentence-transformers: pip install 'kvlens[st]'") from error
    return SentenceTransformer(
        modules=[EncoderModule(encoder)],
        prompts=PROMPT_MARKERS,
        default_prompt_name="document",
        device=str(encoder.lm.device),
    )
