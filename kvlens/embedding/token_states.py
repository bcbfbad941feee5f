"""Token states: the vectors of a batch together with the hidden states that they are pooled of."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from kvlens.layers.readout import LAST
from kvlens.methods.base import Method
from kvlens.methods.watch import Watch
from kvlens.models.language_model import LanguageModel
from kvlens.texts.batches import TokenBatch


def with_token_states(
    lm: LanguageModel, method: Method, batch: TokenBatch
) -> tuple[Float[Tensor, "batch d"], Float[Tensor, "batch seq_len d_model"] | None]:
    """Vectors of a batch, and every token's hidden state, of one pass.

    Args:
        lm: the model, the one of `Method.for_model`.
        method: any.
        batch: what its `tokenize` gave.

    Returns:
        The vectors as `Method.embed` gives them; the states at the method's readout, or None where
        it pools no hidden states, or does not make its vectors in one pass.

    Raises:
        InputError: as `Method.embed`.
    """
    if not method.reads_states or type(method).embed is not Method.embed:
        return method.embed(lm, batch), None
    with lm.turn("measurement"), method.around(lm, batch) as run:
        watch = Watch(lm, run)
        read = method.read(lm, run, watch)
        readout = LAST if method.readout is None else method.readout
        states = watch.states(readout, bool(method.final_norm))
        watch.run()
        return read(), states()
