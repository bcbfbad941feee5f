"""Short of memory: a module whose passes on many tokens do not fit."""

from contextlib import contextmanager

import torch


@contextmanager
def short_of_memory(module, most):
    """The padded tokens of every pass that fits, while those of more are out of memory."""
    fitting = []

    def passes(_, args, kwargs):
        n_tokens = args[0].numel()
        if n_tokens > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        fitting.append(n_tokens)

    handle = module.register_forward_pre_hook(passes, with_kwargs=True)
    try:
        yield fitting
    finally:
        handle.remove()
