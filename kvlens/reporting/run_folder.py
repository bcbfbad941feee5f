"""Run folder: what a run of one model holds, and what it lacks.

It reads files and compares their models. It measures nothing and knows no command line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvlens.analysis.attention import AttentionPatterns, AttentionShift
from kvlens.analysis.method_geometry import Geometry
from kvlens.analysis.word_lens import WordLens
from kvlens.dimension.profile import IDProfile
from kvlens.evaluation.scores import Scores
from kvlens.layers.folder import LAYERS_FILE, PROFILE_FILE
from kvlens.layers.layer_set import LayerSet
from kvlens.store.errors import InputError
from kvlens.store.files import sha256_file
from kvlens.studies.effects import Effects
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.readout_sweep import ReadoutSweep

SHIFT_FILE = "attention/shift.safetensors"
PATTERN_FILES = "attention/patterns*.safetensors"
WORDS_FILE = "word_lens.json"
EFFECTS_FILE = "effects.json"
READOUT_FILE = "readout.json"

KINDS: dict[str, Any] = {
    PROFILE_FILE: IDProfile,
    LAYERS_FILE: LayerSet,
    "geometry.json": Geometry,
    WORDS_FILE: WordLens,
    "scores.json": Scores,
    "sweep.json": Sweep,
    READOUT_FILE: ReadoutSweep,
    EFFECTS_FILE: Effects,
    SHIFT_FILE: AttentionShift,
}

# What a run can lack, in words.
PATTERNS = "attention on single texts"
SHIFT = "the attention shift over a corpus"
GEOMETRY = "embedding geometry"
WORDS = "what states say in words"
SCORES = "an evaluation table"
SWEEP = "a sweep over the layers"

COMMANDS = {
    PATTERNS: "kvlens report",
    SHIFT: "kvlens report",
    GEOMETRY: "kvlens report",
    WORDS: "kvlens report",
    SCORES: "kvlens evaluate",
    SWEEP: "kvlens sweep",
}
"""What a run can lack -> the command that makes it; the terminal tells them in full."""


@dataclass(frozen=True)
class Run:
    """What a run folder holds; None, or no patterns, for what is missing.

    Attributes:
        folder: where it is.
        profile: intrinsic dimension by layer.
        layers: the chosen layers.
        patterns: attention on single texts, in the order of their files' numbers.
        shift: attention over a corpus.
        geometry: the embedding spaces of several methods.
        words: what values, hidden states and the embedding say in words.
        scores: an evaluation table.
        sweep: quality against the re-routed layers.
        readout: quality against the block that is read.
        effects: what each part of a route does to embeddings.
        hashes: file inside the folder -> its sha256, of each file that was read.
    """

    folder: Path
    profile: IDProfile
    layers: LayerSet
    patterns: tuple[AttentionPatterns, ...]
    shift: AttentionShift | None
    geometry: Geometry | None
    words: WordLens | None
    scores: Scores | None
    sweep: Sweep | None
    readout: ReadoutSweep | None
    effects: Effects | None
    hashes: dict[str, str]

    @classmethod
    def read(cls, folder: str | Path) -> Run:
        """Read a run folder.

        Args:
            folder: holds profile.json and layers.json at least, as `kvlens profile` writes them.

        Returns:
            What is in it, all of one model.

        Raises:
            InputError: when one of the two is missing, a file is damaged, or of another model.
        """
        folder = Path(folder)
        _check_run_folder(folder)
        parts = _load_parts(folder)
        _check_one_model(folder, parts)
        patterns = [part for part in parts.values() if isinstance(part, AttentionPatterns)]
        return cls(
            folder=folder,
            profile=parts[PROFILE_FILE],
            layers=parts[LAYERS_FILE],
            patterns=tuple(patterns),
            shift=parts.get(SHIFT_FILE),
            geometry=parts.get("geometry.json"),
            words=parts.get(WORDS_FILE),
            scores=parts.get("scores.json"),
            sweep=parts.get("sweep.json"),
            readout=parts.get(READOUT_FILE),
            effects=parts.get(EFFECTS_FILE),
            hashes={name: sha256_file(folder / name) for name in parts},
        )

    @property
    def missing(self) -> tuple[str, ...]:
        """What is missing, in the words that are the keys of `COMMANDS`.

        A run that re-routes no layer lacks no attention: there is none to measure.
        """
        rerouted = bool(self.layers.layers)
        absent = {
            PATTERNS: rerouted and not self.patterns,
            SHIFT: rerouted and self.shift is None,
            GEOMETRY: self.geometry is None,
            WORDS: self.words is None,
            SCORES: self.scores is None,
            SWEEP: self.sweep is None,
        }
        return tuple(what for what, is_absent in absent.items() if is_absent)


def _check_run_folder(folder: Path) -> None:
    if (folder / PROFILE_FILE).exists() and (folder / LAYERS_FILE).exists():
        return
    inside = ", ".join(sorted(str(path.parent) for path in folder.glob(f"*/{LAYERS_FILE}")))
    hint = "make it with `kvlens profile MODEL`"
    if inside:
        hint = f"it has one of each model inside: {inside}"
    raise InputError(f"{folder} is no run folder with profile.json and layers.json; {hint}")


def _load_parts(folder: Path) -> dict[str, Any]:
    """File inside the folder -> what it holds; patterns by number, 2 before 10."""
    paths = sorted(folder.glob(PATTERN_FILES), key=lambda path: (len(path.name), path.name))
    patterns = {f"attention/{path.name}": AttentionPatterns for path in paths}
    return {
        name: kind.load(folder / name)
        for name, kind in {**KINDS, **patterns}.items()
        if (folder / name).exists()
    }


def _check_one_model(folder: Path, parts: dict[str, Any]) -> None:
    model = parts[LAYERS_FILE].model
    for name, part in parts.items():
        if not part.model.same_weights(model):
            raise InputError(
                f"{folder / name} is of {part.model.name}, not of {model.name}: move it"
            )
