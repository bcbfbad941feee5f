"""Head names: whether the heads that a control names are there, and have keys of their own."""

from __future__ import annotations

from kvlens.layers.control import Control
from kvlens.models.anatomy import LayerAnatomy
from kvlens.store.errors import InputError


def check_heads(control: Control, layer: LayerAnatomy) -> None:
    """Raise InputError unless a layer has the heads that a control names, and their keys."""
    outside = [head for head in control.heads.get(layer.layer, ()) if head >= layer.n_heads]
    if outside:
        raise InputError(
            f"`heads` names head {outside[0]} of layer {layer.layer}, which has "
            f"{layer.n_heads} query heads"
        )
    for what in ("key", "value"):
        names = control.carried(what, layer.layer, layer.n_kv_heads)
        if len(names) != layer.n_kv_heads:
            raise InputError(
                f"`{what}` names {len(names)} KV heads of layer {layer.layer}, which has "
                f"{layer.n_kv_heads}"
            )
        if layer.latent and (set(names) != {"own"} or control.source in ("mean", "probe")):
            raise InputError(
                f"layer {layer.layer} caches what keys and values are expanded from: its prefix "
                "is a token's own"
            )
