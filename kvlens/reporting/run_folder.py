"""Run folder: what a run holds and what is missing."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvlens.analysis.attention import (
    AttentionPatterns,
    AttentionShift,
)
from kvlens.analysis.method_geometry import Geometry
from kvlens.dimension.profile import IDProfile
from kvlens.evaluation.scores import Scores
from kvlens.layers.layer_set import LayerSet
from kvlens.store.errors import InputError
from kvlens.store.files import sha256_file
from kvlens.studies.layer_sweep import Sweep


@dataclass(frozen=True)
class Run:
    """What a run folder holds; None, or no patterns, for what is missing."""

    folder: Path
    profile: IDProfile
    layers: LayerSet
    patterns: tuple[AttentionPatterns, ...]
    shift: AttentionShift | None
    geometry: Geometry | None
    scores: Scores | None
    sweep: Sweep | None
    hashes: dict[str, str]

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Raises InputError when profile.json or layers.json is missing, a file is damaged, or of another model."""
        folder = Path(folder)
        if not (folder / "profile.json").exists() or not (folder / "layers.json").exists():
            inside = ", ".join(sorted(str(path.parent) for path in folder.glob("*/layers.json")))
            hint = (
                f"it has one of each model inside: {inside}"
                if inside
                else "make it with `kvlens profile MODEL`"
            )
            raise InputError(f"{folder} is no run folder with profile.json and layers.json; {hint}")
        kinds: dict[str, Any] = {
            "profile.json": IDProfile,
            "layers.json": LayerSet,
            "geometry.json": Geometry,
        }
        kinds |= {
            "scores.json": Scores,
            "sweep.json": Sweep,
            "attention/shift.safetensors": AttentionShift,
        }
        paths = sorted(
            folder.glob("attention/patterns*.safetensors"),
            key=lambda path: (len(path.name), path.name),
        )
        kinds |= {f"attention/{path.name}": AttentionPatterns for path in paths}
        found = {
            name: kind.load(folder / name)
            for name, kind in kinds.items()
            if (folder / name).exists()
        }
        model = found["layers.json"].model
        if others := [name for name, one in found.items() if not one.model.same_weights(model)]:
            other = found[others[0]].model.name
            raise InputError(f"{folder / others[0]} is of {other}, not of {model.name}: move it")
        return cls(
            folder=folder,
            profile=found["profile.json"],
            layers=found["layers.json"],
            patterns=tuple(one for name, one in found.items() if kinds[name] is AttentionPatterns),
            shift=found.get("attention/shift.safetensors"),
            geometry=found.get("geometry.json"),
            scores=found.get("scores.json"),
            sweep=found.get("sweep.json"),
            hashes={name: sha256_file(folder / name) for name in found},
        )

    @property
    def missing(self) -> list[tuple[str, str]]:
        """What is missing, and the command that makes it."""
        run, model = (shlex.quote(str(name)) for name in (self.folder, self.layers.model.name))
        again = f"kvlens report {run}"
        parts = [
            ("attention on single texts", again, self.patterns or not self.layers.layers),
            ("the attention shift over a corpus", again, self.shift or not self.layers.layers),
            ("embedding geometry", again, self.geometry),
            (
                "an evaluation table",
                f"kvlens evaluate {model} --layers {run}/layers.json -o {run}",
                self.scores,
            ),
            (
                "a sweep over the layers",
                f"kvlens sweep {model} --pairs PAIRS.jsonl -o {run}/sweep.json",
                self.sweep,
            ),
        ]
        return [(what, command) for what, command, there in parts if not there]
