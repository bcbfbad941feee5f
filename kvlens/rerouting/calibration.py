"""Calibration: final-token keys and values of other texts, for prefixes that carry these."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from kvlens.layers.control import ControlOptions
from kvlens.layers.layer_set import LayerSet
from kvlens.layers.route import RouteLike
from kvlens.models.info import ModelInfo
from kvlens.rerouting.static_prefix import KEY, VALUE, StaticPrefix, check_kinds
from kvlens.store.arguments import refusal
from kvlens.store.errors import InputError
from kvlens.store.files import sha256_file
from kvlens.store.layer_ranges import phrase
from kvlens.store.opening import format_of
from kvlens.tracing.shards import index_file
from kvlens.tracing.trace import Trace

FEWEST = 2  # texts: one would be another text to itself
PREFIX_FILE = "prefix.safetensors"
BESIDE = (PREFIX_FILE, "trace.safetensors")
"""What may lie beside a layer set and hold what it needs."""


@dataclass(frozen=True)
class Calibration:
    """Keys before their rotation, and values, of texts or of their mean.

    Attributes:
        states: a trace that holds ``k_pre`` and ``v``, or their means.
        sha256: of its file.
    """

    states: Trace | StaticPrefix = field(compare=False, repr=False)
    sha256: str

    @classmethod
    def of(cls, given: CalibrationLike, name: str = "calibration") -> Calibration:
        """The calibration that a trace, a static prefix, their file or another calibration is.

        Args:
            given: any of these.
            name: of the parameter, for the message.

        Returns:
            The calibration.

        Raises:
            InputError: for anything else, and a trace without ``k_pre`` and ``v``.
        """
        if isinstance(given, Calibration):
            return given
        if isinstance(given, str | Path):
            given = index_file(given) or given
            kind = StaticPrefix if format_of(given) == StaticPrefix.format else Trace
            return cls._checked(kind.load(given), sha256_file(given))
        if isinstance(given, Trace | StaticPrefix):
            return cls._checked(given, _hash_of(given))
        raise refusal(name, given, "a trace with k_pre and v, a static prefix, or a file")

    @classmethod
    def _checked(cls, states: Trace | StaticPrefix, sha256: str) -> Calibration:
        if isinstance(states, Trace):
            check_kinds(states)
        return cls(states, sha256)

    @classmethod
    def beside(cls, folder: Path, sha256: str) -> Calibration | None:
        """The one of this hash in the folder of a layer set; None where there is none."""
        for name in BESIDE:
            file = folder / name
            if sha256 and file.is_file() and sha256_file(file) == sha256:
                return cls.of(file)
        return None

    def check_serves(self, model: ModelInfo, layers: Sequence[int]) -> None:
        """Raise InputError unless it is of this model and has these layers."""
        made_for = self.states.model
        if not made_for.same_weights(model):
            raise InputError(
                f"the calibration states are of {made_for.name} ({made_for.revision[:19]}), "
                f"not of {model.name} ({model.revision[:19]})"
            )
        held = self.states.layers_of(KEY) if isinstance(self.states, Trace) else self.states.layers
        missing = sorted(set(layers) - set(held))
        if missing:
            raise InputError(f"the calibration states lack {phrase(missing)}: record them again")

    def mean(self, what: str, layer: int) -> Float[Tensor, "n_kv_heads width"]:
        """The mean over texts of a layer's ``key``, not rotated, or ``value``; float32."""
        kind = _KINDS[what]
        if isinstance(self.states, StaticPrefix):
            return self.states.mean(kind, layer)
        return self.states.of_heads(layer, kind).double().mean(0).float()

    def texts(self, what: str, layer: int) -> Float[Tensor, "n_texts n_kv_heads width"]:
        """Each text's own; raises InputError where only means are held, or one text."""
        if isinstance(self.states, StaticPrefix) or self.states.texts.n < FEWEST:
            raise InputError(
                "another text's key or value needs a calibration trace of at least "
                f"{FEWEST} texts, not a static prefix"
            )
        return self.states.of_heads(layer, _KINDS[what])

    def other(self, text: str, seed: int) -> int:
        """Which text stands for another one.

        Args:
            text: the `token_hash` of the text at hand, so that batches do not matter.
            seed: another one, another choice.

        Returns:
            Its place in the trace; never the same text's.
        """
        digest = hashlib.sha256(f"{seed} {text}".encode()).digest()
        drawn = int.from_bytes(digest[:8], "little") % self.states.texts.n
        hashes = self.states.token_hashes if isinstance(self.states, Trace) else ()
        for step in range(len(hashes)):
            place = (drawn + step) % len(hashes)
            if hashes[place] != text:
                return place
        return drawn


def calibration(states: CalibrationLike) -> Calibration:
    """Keys and values of calibration texts, for re-routing with a prefix that carries them.

    Args:
        states: a trace with ``k_pre`` and ``v``, a static prefix, or the file of one.

    Returns:
        The calibration.

    Raises:
        InputError: for anything else, and a trace without ``k_pre`` and ``v``.
    """
    return Calibration.of(states, "states")


def with_calibration(layers: RouteLike, options: ControlOptions) -> ControlOptions:
    """Options of a route with the calibration in place of what names it.

    Args:
        layers: a route; a layer set's file may have what it needs beside it.
        options: as a user gives them.

    Returns:
        The same, as `Route.of` takes them.

    Raises:
        InputError: as `calibration`.
    """
    if options.get("calibration") is not None:
        return {**options, "calibration": Calibration.of(options["calibration"])}
    if isinstance(layers, str | Path):
        wanted = LayerSet.load(layers).control.calibration
        return {**options, "calibration": Calibration.beside(Path(layers).parent, wanted)}
    return options


_KINDS = {"key": KEY, "value": VALUE}

CalibrationLike = Calibration | Trace | StaticPrefix | str | Path
"""Keys and values of calibration texts: a trace, a static prefix, or the file of one."""


def _hash_of(states: Trace | StaticPrefix) -> str:
    """The sha256 of the file that `save` would write."""
    with tempfile.TemporaryDirectory(prefix="kvlens-") as folder:
        return sha256_file(states.save(Path(folder) / "states.safetensors"))
