"""Static prefix: the mean final key and value of calibration texts; one safetensors file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from kvlens.models.info import ModelInfo
from kvlens.store.arrays import check_array, check_finite
from kvlens.store.artifact import TensorArtifact
from kvlens.store.checking import a, arguments
from kvlens.store.errors import InputError
from kvlens.store.layer_ranges import phrase
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import TextsInfo
from kvlens.tracing.trace import Trace

KEY = "k_pre"  # before the rotation, so that it can be rotated to wherever the prefix stands
VALUE = "v"


@dataclass(frozen=True)
class StaticPrefix(TensorArtifact):
    """Mean keys and values of other texts' final tokens, which stand for a text's own.

    Attributes:
        model: whose they are.
        prompt: around every text.
        texts: where they come from.
        layers: the blocks that it has, ascending.
        versions: of the libraries that recorded.
        tensors: ``k_pre.3`` (not rotated) and ``v.3`` of layer 3, each float32
            ``[n_kv_heads, width]``, and so on.
    """

    what: ClassVar[str] = "a static prefix"
    again: ClassVar[str] = "run `kvlens profile` again"
    format: ClassVar[str] = "kvlens.static-prefix"
    version: ClassVar[int] = 1
    array_fields: ClassVar[tuple[str, ...]] = ("tensors",)
    framework: ClassVar[Literal["np", "pt"]] = "pt"

    model: ModelInfo
    prompt: Prompt
    texts: TextsInfo
    layers: tuple[int, ...]
    versions: dict[str, str]
    tensors: dict[str, Tensor] = field(repr=False)

    def __post_init__(self) -> None:
        """Raise InputError for tensors that are not one of each kind a layer."""
        self.model.check_layers(self.layers)
        names = {f"{kind}.{layer}" for kind in (KEY, VALUE) for layer in self.layers}
        if set(self.tensors) != names:
            raise InputError(f"its tensors are not k_pre and v of {phrase(self.layers)}")
        for name, tensor in self.tensors.items():
            check_array(name, tensor, "heads width", {})
            check_finite(name, tensor)

    def mean(self, kind: str, layer: int) -> Float[Tensor, "n_kv_heads width"]:
        """The mean of a layer's ``k_pre`` or ``v``."""
        return self.tensors[f"{kind}.{layer}"]


@arguments(trace=a(Trace, "a trace of `record`"))
def static_prefix(trace: Trace) -> StaticPrefix:
    """The mean final key and value of a trace's texts, in every layer that has them.

    Args:
        trace: with ``k_pre`` and ``v``.

    Returns:
        The means.

    Raises:
        InputError: for a trace without them.
    """
    check_kinds(trace)
    layers = trace.layers_of(KEY)
    return StaticPrefix(
        model=trace.model,
        prompt=trace.prompt,
        texts=trace.texts,
        layers=layers,
        versions=trace.versions,
        tensors={
            f"{kind}.{layer}": trace.of_heads(layer, kind).double().mean(0).float()
            for kind in (KEY, VALUE)
            for layer in layers
        },
    )


def check_kinds(trace: Trace) -> None:
    """Raise InputError for a trace that lacks keys before their rotation, or values."""
    missing = [kind for kind in (KEY, VALUE) if not trace.holds(kind)]
    if missing:
        raise InputError(
            f"the calibration trace holds no {' and no '.join(missing)}: record it with "
            f"keep=({KEY!r}, {VALUE!r})"
        )
