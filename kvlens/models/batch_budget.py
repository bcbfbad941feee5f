"""Batch budget: how many padded tokens a batch may have, by the free memory of the device."""

from __future__ import annotations

import torch

from kvlens.models.language_model import LanguageModel

SHARE = 0.5  # of the free memory: what a batch leaves behind, and what others take, is not known
FEWEST = 256
MOST = 32_768  # more tokens keep no device busier
STREAMS = 16  # numbers of the model's width that are alive for a token inside a block
INNER = 4  # and of the width inside its MLP


def batch_budget(lm: LanguageModel, on_cpu: int) -> int:
    """Padded tokens of a batch, where nobody says how many.

    Args:
        lm: the model, loaded.
        on_cpu: how many where there is no accelerator, on which larger batches would be quicker.

    Returns:
        On CUDA a power of two, so that free memory that differs a little changes no batch.
    """
    devices = {parameter.device for parameter in lm.hf.parameters()}
    free = [torch.cuda.mem_get_info(each)[0] for each in devices if each.type == "cuda"]
    return tokens_that_fit(min(free), bytes_a_token(lm)) if free else on_cpu


def bytes_a_token(lm: LanguageModel) -> int:
    """Bytes that a token takes inside a block, about: what is kept beyond it is small."""
    inner = getattr(lm.hf.config.get_text_config(), "intermediate_size", None)
    width = lm.info.d_model
    n_inner = inner if isinstance(inner, int) else INNER * width
    return lm.hf.dtype.itemsize * (STREAMS * width + INNER * n_inner)


def tokens_that_fit(free: int, each: int) -> int:
    """The largest power of two of tokens for which a share of the free memory does.

    Args:
        free: bytes.
        each: bytes that a token takes.
    """
    fitting = int(SHARE * free / each)
    within = min(max(fitting, FEWEST), MOST)
    return 1 << (within.bit_length() - 1)
