"""Passed tokens: how many tokens go through a model, padding among them."""

import contextlib
from functools import partial


@contextlib.contextmanager
def counted(lm):
    """A list with the tokens of every pass, whichever blocks it begins and ends with."""
    passes = []
    before = len(lm.blocks)

    def note(index, block, args, kwargs):
        nonlocal before
        hidden = args[0] if args else kwargs["hidden_states"]
        if index <= before:  # else the pass goes on
            passes.append(hidden.shape[0] * hidden.shape[1])
        before = index

    handles = [
        block.register_forward_pre_hook(partial(note, index), with_kwargs=True)
        for index, block in enumerate(lm.blocks)
    ]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()
