"""Origin: whether the model, the texts and the versions that a result recorded are those here.

Nothing is loaded, converted or fetched for it. What is looked up once is not looked up again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvlens.analysis.method_geometry import Geometry
from kvlens.layers.layer_set import LayerSet
from kvlens.models.info import ModelInfo
from kvlens.models.present import model_here, tokenizer_here
from kvlens.reporting.verification import About, Check, Verdict
from kvlens.store.here import Here, places_of
from kvlens.store.provenance import Provenance, installed_version
from kvlens.studies.layer_sweep import Sweep
from kvlens.studies.readout_sweep import ReadoutSweep
from kvlens.texts.present import scores_hash, scores_here, texts_here
from kvlens.texts.texts import TextsInfo

NO_HASH = "a geometry records no hash of its texts"


class LookUps:
    """What is here, each thing looked up once: hashing a model can take a minute.

    Attributes:
        model: see `model_here`.
        tokenizer: see `tokenizer_here`.
        texts: see `texts_here`.
    """

    def __init__(self) -> None:
        self.model = functools.cache(model_here)
        self.tokenizer = functools.cache(tokenizer_here)
        self.texts = functools.cache(texts_here)


@dataclass(frozen=True)
class Surroundings:
    """Where what a result names may be.

    Attributes:
        bases: the folders from which recorded relative paths are tried.
        commands: the command lines of the files beside it, which name folders.
        look_ups: shared by all files.
    """

    bases: tuple[Path, ...]
    commands: tuple[str, ...]
    look_ups: LookUps


def origin_checks(result: Any, around: Surroundings) -> list[Check]:
    """The checks of a result's model, texts and versions.

    Args:
        result: has a model and versions at least, as `Provenance.of` needs them.
        around: where to look.
    """
    origin = Provenance.of(result)
    commands = tuple(dict.fromkeys([origin.command, *around.commands]))
    texts = result.profile.texts if isinstance(result, LayerSet) else origin.texts
    checks = model_checks(origin.model, around)
    if texts is not None:
        checks.append(_texts_check(texts, commands, around))
    elif isinstance(result, Sweep | ReadoutSweep):
        checks.append(_pairs_check(result, commands, around))
    elif isinstance(result, Geometry):
        checks.append(Check("texts", "texts", "cannot tell", reason=NO_HASH))
    return checks + version_checks(origin.versions.items())


def model_checks(model: ModelInfo, around: Surroundings) -> list[Check]:
    """Whether the model's name means the same weights and the same tokenizer here."""
    if model.revision in ("", "unknown"):
        return [Check("model", "model", "cannot tell", reason="its revision was not recorded")]
    places = tuple(places_of(model.name, around.bases))
    here = around.look_ups.model(model.name, model.revision, places)
    weights = _check("model", "model", model.revision, here, f"{model.name} is another one here")
    if here.place is None:
        reason = here.note or "its files are not here"
        tokenizer = Here(None, exists=False, note=reason)
    else:
        tokenizer = around.look_ups.tokenizer(here.place)
    return [weights, _check("model", "tokenizer", model.tokenizer, tokenizer, "")]


def _texts_check(texts: TextsInfo, commands: Sequence[str], around: Surroundings) -> Check:
    here = around.look_ups.texts(texts, around.bases, commands)
    return _check("texts", "texts", texts.sha256, here, f"{texts.source} holds other texts here")


def _pairs_check(
    sweep: Sweep | ReadoutSweep, commands: Sequence[str], around: Surroundings
) -> Check:
    """Of a sweep's pairs only the scores are recorded."""
    here = scores_here(Path(sweep.data).name, sweep.human, around.bases, commands)
    expected = scores_hash(sweep.human)
    return _check("texts", "pairs", expected, here, f"{sweep.data} holds other scores here")


def _check(about: About, what: str, expected: str, here: Here, differs: str) -> Check:
    """The check of what was recorded against what is here."""
    if here.content is not None:
        return Check.compare(about, what, expected, here.content, here.note or differs, here.note)
    verdict: Verdict = "differs" if here.exists else "cannot tell"
    return Check(about, what, verdict, expected, reason=here.note)


def version_checks(versions: Iterable[tuple[str, str]]) -> list[Check]:
    """Each recorded (package, version) against the installed one."""
    return [
        Check.compare("version", package, version, installed_version(package))
        for package, version in versions
    ]
