"""`kvlens attend --probe`: which tokens a probe query ranks highest, as a file and a table."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from kvlens.cli.progress import progress
from kvlens.cli.values import WholeNumber
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.prompts import Prompt

PROBE_FILES = ("probe_tokens.json",)
N_PROBED = 100  # texts
COLUMNS = 4


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """Whose key and value is re-routed.

    Attributes:
        probe: tell which tokens a probe query ranks highest, and nothing else
        source: with --effects: final, text, mean, probe or a token's index [default: the route's]
        columns: tokens of source probe, or that --probe tells of [default: 1; 4 with --probe]
    """

    probe: bool = False
    source: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    columns: WholeNumber | None = None

    def check(self, effects: bool) -> None:
        """Raise InputError for what does not go together."""
        if self.probe and (effects or self.source is not None):
            raise InputError("`probe` tells of source probe alone: give no `effects` and `source`")
        if not (self.probe or effects) and self != ProbeOptions():
            raise InputError("`source` and `columns` are for `effects`, `columns` for `probe`, too")

    @property
    def control(self) -> dict[str, Any]:
        """The options of a route that were given."""
        given: dict[str, Any] = {"source": self.source, "columns": self.columns}
        with contextlib.suppress(TypeError, ValueError):
            given["source"] = int(given["source"])
        return {name: value for name, value in given.items() if value is not None}


def write_probe_tokens(
    lm: LanguageModel, texts: Any, layers: Any, prompt: Prompt, folder: Path, **options: Any
) -> str:
    """Write which tokens are ranked highest.

    Args:
        lm: the model.
        texts: without their prompt.
        layers: block indices, or a layer set's file.
        prompt: around each text.
        folder: to write into.
        **options: of `kvlens.probe_tokens`.

    Returns:
        What was found, for people.
    """
    from kvlens.analysis.probe_choices import probe_tokens

    columns = options.pop("columns", None) or COLUMNS
    with progress("ranking tokens") as bar:
        found = probe_tokens(lm, texts, layers, columns, prompt, progress=bar, **options)
    found.save(folder / "probe_tokens.json")
    return str(found)
