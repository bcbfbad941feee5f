"""Recorded: a trace that is there already, in place of recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cyclopts import Parameter

from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.models.language_model import LanguageModel
    from kvlens.texts.prompts import Prompt
    from kvlens.texts.texts import Texts
    from kvlens.tracing.trace import Trace


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What is recorded already.

    Attributes:
        trace: a folder of `kvlens record`, or a trace file: it is read, nothing is recorded
    """

    trace: Path | None = None

    def load(self) -> Trace | None:
        """The trace; None where none was named."""
        from kvlens.tracing.trace import Trace

        return Trace.load(self.trace) if self.trace else None

    def of(self, name: str) -> Trace:
        """The trace of a model; raises InputError where there is none, or of another one."""
        trace = self.load()
        if trace is None or trace.model.name != name:
            other = trace and trace.model.name
            raise InputError(f"{self.trace} is a `trace` of {other}, not of {name}")
        return trace


def check_made_of(trace: Trace, lm: LanguageModel, texts: Texts, prompt: Prompt) -> None:
    """Raise InputError for a trace of something else than what is at hand."""
    agreed = {
        f"another model than {lm.info.name}": trace.model.same_weights(lm.info),
        f"other texts than {texts.source}": trace.texts.sha256 == texts.sha256,
        f"another prompt than {prompt.name}": trace.prompt == prompt,
    }
    for what, same in agreed.items():
        if not same:
            raise InputError(f"the `trace` is of {what}: record that")
