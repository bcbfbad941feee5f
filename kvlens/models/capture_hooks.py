"""Capture hooks: what transformers leaves in a model once it was asked for hidden states.

They idle until the next call that asks, which puts them in where they are missing.
"""

from __future__ import annotations

from typing import Any

HOME = "transformers.utils.output_capturing"


def remove_capture_hooks(hf: Any) -> None:
    """Take them out of a model: no pickle can hold them.

    Args:
        hf: a transformers model; it computes what it did, and gives hidden states when asked.
    """
    for module in hf.modules():
        hooks = module._forward_hooks
        for key in [key for key, hook in hooks.items() if hook.__module__ == HOME]:
            del hooks[key]
        if hasattr(module, "_output_capturing_hooks_installed"):
            del module._output_capturing_hooks_installed
