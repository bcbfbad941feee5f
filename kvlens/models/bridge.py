"""Bridge: TransformerLens' module tree over a transformers model, and the hooks that fire in it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch

from kvlens.models.quiet import quietly
from kvlens.models.trees import tree_over
from kvlens.models.turns import Turn
from kvlens.store.errors import InputError, one_line, shortened

# Points of a block whose states, keys, values, scores and patterns others read.
BLOCK_POINTS = (
    "hook_resid_pre",
    "hook_resid_post",
    "attn.hook_k",
    "attn.hook_v",
    "attn.hook_k_normed",
    "attn.hook_rot_k",
    "attn.hook_cos",
    "attn.hook_sin",
    "attn.hook_attn_scores",
    "attn.hook_pattern",
)


def bridge_over(hf: Any, name: str) -> Any:
    """A `TransformerBridge` over the SAME parameter tensors as `hf`, with modules of its own.

    Args:
        hf: a transformers causal LM; it stays as it is.
        name: of the model.

    Returns:
        The bridge: eager attention, every hook point, no parameter with gradients.

    Raises:
        InputError: when TransformerLens does not know the architecture.
    """
    with quietly():
        from transformer_lens.model_bridge.sources import build_bridge_from_module

        tree = tree_over(hf)
        tree.set_attn_implementation("eager")
        architecture = tree.config.architectures[0]
        try:
            bridge = build_bridge_from_module(
                tree, architecture, hf_config=tree.config, model_name=name
            )
        except (ValueError, ImportError) as error:  # some adapters need torchvision
            problem = f"TransformerLens has no adapter for {architecture}: {one_line(error)}"
            raise InputError(shortened(problem)) from error
        except Exception as error:  # some take the model for another one
            problem = f"TransformerLens' adapter for {architecture} fails: {one_line(error)}"
            raise InputError(shortened(problem)) from error
    # What rewrites parameters while binding (split QKV) must not ask for gradients.
    return bridge.requires_grad_(False)


def point_names(n_layers: int) -> list[str]:
    """The full hook names of `BLOCK_POINTS` in every block."""
    return [f"blocks.{layer}.{point}" for layer in range(n_layers) for point in BLOCK_POINTS]


def firing_hooks(
    turn: Turn, bridge: Any, names: Sequence[str], device: torch.device
) -> frozenset[str]:
    """Which hook points are called in a forward pass, found by one of two tokens.

    Some exist without ever being called, and TransformerLens ignores a wrong name in silence.

    Args:
        turn: on the model.
        bridge: a `TransformerBridge`.
        names: full names of hook points.
        device: of the model.

    Returns:
        Those among `names` that fired.
    """
    fired: set[str] = set()

    def note(name: str, states: Any, hook: Any) -> None:
        fired.add(name)  # not `hook.name`: points have aliases

    turn.tap(bridge, [(name, partial(note, name)) for name in names if name in bridge.hook_dict])
    ids = torch.zeros((1, 2), dtype=torch.long, device=device)
    with torch.inference_mode():
        bridge(ids, return_type=None, use_cache=False, logits_to_keep=1)
    return frozenset(fired)
