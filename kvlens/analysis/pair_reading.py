"""Pair reading: two texts run through the model once each, and their cosine taken apart."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from torch import Tensor
from torch.nn.functional import cosine_similarity

from kvlens.analysis.pair_parts import PairParts
from kvlens.analysis.residual_parts import ResidualParts, ResidualReader
from kvlens.analysis.token_labels import readable_tokens
from kvlens.embedding.encoder import Encoder, an_encoder
from kvlens.store.checking import arguments, choice, members, text
from kvlens.store.errors import InputError
from kvlens.store.provenance import current_command, versions
from kvlens.texts.batches import pad
from kvlens.texts.tokens import TokenizedText

KINDS = ("query", "document")


@arguments(encoder=an_encoder, first=text, second=text, kinds=members(choice(*KINDS), "kinds"))
def pair_parts(
    encoder: Encoder,
    first: str,
    second: str,
    kinds: Sequence[str] = ("document", "document"),
) -> PairParts:
    """Why two texts are similar: their cosine by pair of tokens, block and query head, exactly.

    Each text runs once, re-routed where the encoder re-routes. The final norm is linear with each
    token's own scale held, and pooling is a weighted sum, so the shares add up to the cosine.
    Heads are told where the model shows what they write and its block adds that up.

    Args:
        encoder: without post-processing; its method pools hidden states.
        first: one text.
        second: the other.
        kinds: of each, ``query`` or ``document``, whose prompt is used.

    Returns:
        The cosine and its parts.

    Raises:
        InputError: for an encoder with post-processing, a method whose vector is no weighted sum of
            hidden states, or that changes them between blocks, a vector without length, and as
            `Encoder.encode`.
    """
    if len(kinds) != 2:
        raise InputError(f"`kinds` are {len(kinds)}, give one for each of two texts")
    if encoder.post is not None:
        raise InputError(
            f"the encoder has post-processing ({encoder.post.kind}): give one without, whose "
            "vectors are sums of what was written"
        )
    lm = encoder.lm
    sides = [
        encoder.tokenize([each], encoder.prompt_for(kind))[0]
        for each, kind in zip((first, second), kinds, strict=True)
    ]
    shares = _shares(*_parts(encoder, sides))
    one, other = sides
    return PairParts(
        model=lm.info,
        method=encoder.method.name,
        settings=json.loads(json.dumps(encoder.method.settings())),  # as a file holds them
        texts=(first, second),
        tokens=(readable_tokens(lm.tokenizer, one.ids), readable_tokens(lm.tokenizer, other.ids)),
        spans=(one.span, other.span),
        cosine=float(shares["tokens"].sum()),
        versions=versions(),
        command=current_command(),
        arrays=shares,
    )


def _parts(encoder: Encoder, sides: Sequence[TokenizedText]) -> list[ResidualParts]:
    """Each text's vector in parts."""
    lm = encoder.lm
    reader = ResidualReader.of(lm)
    pad_id = lm.tokenizer.pad_token_id
    batches = [pad([each], [0], pad_id, device=lm.device) for each in sides]
    return [reader.parts(encoder.method, batch) for batch in batches]


def _shares(u: ResidualParts, v: ResidualParts) -> dict[str, np.ndarray]:
    """The arrays of a `PairParts`."""
    lengths = u.vector.norm() * v.vector.norm()
    if not lengths > 0:
        raise InputError("one of the vectors is zero: it has no direction, and no cosine")

    def share(of_u: Tensor, of_v: Tensor) -> np.ndarray:
        return ((of_u @ v.vector + of_v @ u.vector) / (2 * lengths)).numpy()

    shares = {
        "tokens": (u.tokens @ v.tokens.T / lengths).numpy(),
        "after": cosine_similarity(u.after, v.after, eps=1e-30).numpy(),
        "ends": share(u.ends, v.ends),
        "blocks": share(u.blocks, v.blocks),
    }
    if u.attention is not None and v.attention is not None:
        shares["attention"] = share(u.attention.whole, v.attention.whole)
        shares["heads"] = share(u.attention.heads, v.attention.heads)
    return shares
