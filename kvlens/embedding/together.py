"""Together: encoders whose methods share a forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from kvlens.embedding.encoder import Encoder
from kvlens.embedding.passes import batches_together
from kvlens.store.progress import Progress


def share_a_pass(encoder: Encoder, other: Encoder, kind: str) -> bool:
    """Whether one pass serves both: the same model, tokens and batches, changed alike.

    Args:
        encoder: one.
        other: the other.
        kind: ``query`` or ``document``, whose prompts are used.
    """
    if encoder.lm is not other.lm or encoder.limits != other.limits:
        return False
    first = encoder.method.pass_of(encoder.prompt_for(kind))
    return first == other.method.pass_of(other.prompt_for(kind))


def groups_by_pass(encoders: Sequence[Encoder], kind: str) -> list[list[Encoder]]:
    """Encoders that one pass serves beside each other, in order of appearance.

    Args:
        encoders: in any order.
        kind: ``query`` or ``document``, whose prompts are used.
    """
    groups: list[list[Encoder]] = []
    for encoder in encoders:
        fitting = (group for group in groups if share_a_pass(group[0], encoder, kind))
        group = next(fitting, None)
        if group is None:
            groups.append([encoder])
        else:
            group.append(encoder)
    return groups


def raw_together(
    encoders: Sequence[Encoder], texts: Sequence[str], kind: str, progress: Progress
) -> list[Float[np.ndarray, "n _"]]:
    """`Encoder.raw` of encoders that share a pass, which is run once.

    Args:
        encoders: at least one.
        texts: distinct texts, at least one.
        kind: ``query`` or ``document``, whose prompts are used.
        progress: called with (done, total) texts.

    Returns:
        float32 ``[n, d]`` of each encoder: what its `raw` gives, to the bit.

    Raises:
        InputError: as `Encoder.raw`.
    """
    first = encoders[0]
    tokenized = first.tokenize(texts, first.prompt_for(kind))
    methods = [encoder.method for encoder in encoders]
    vectors = batches_together(first.lm, methods, tokenized, first.room, None, progress)
    return [each.numpy(force=True) for each in vectors]
