"""Recording: how `kvlens profile` comes to the states of each of its models."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kvlens.cli.answers import Answer, forecast_answer
from kvlens.cli.engine import EngineOptions, recorded_by_ray
from kvlens.cli.options import ChatOptions, LimitOptions, ModelOptions, PromptedTexts
from kvlens.cli.profile_options import Measured
from kvlens.cli.progress import progress

if TYPE_CHECKING:
    from kvlens.texts.texts import Texts
    from kvlens.tracing.trace import Trace


@dataclass(frozen=True)
class Recording:
    """The options that decide what is recorded, and where.

    Attributes:
        measured: which states.
        texts: of which texts, with which prompt.
        chat: the chat that the prompt is put into.
        limits: how long a text may be.
        model: how a model is loaded.
        engine: where it is done.
        overwrite: start again what Ray has left of a stopped run with other options.
    """

    measured: Measured
    texts: PromptedTexts
    chat: ChatOptions
    limits: LimitOptions
    model: ModelOptions
    engine: EngineOptions
    overwrite: bool

    def read(self) -> Texts:
        """The texts: as many as an estimate needs; raises InputError for fewer."""
        from kvlens.dimension.copies import MIN_POINTS

        return self.texts.read(self.texts.n, MIN_POINTS)

    def of(self, name: str, texts: Texts, beside: Path, stack: ExitStack) -> Trace:
        """The states of one model.

        Args:
            name: of the model.
            texts: see `read`.
            beside: a folder; what Ray records lies next to it.
            stack: at whose end that goes.

        Raises:
            InputError: as `record`, and as the engine.
        """
        if not self.engine.is_ray:
            return self._here(name, texts)
        given = (self.texts.prompt, self.measured, beside, self.overwrite)
        options = (self.model, self.chat, self.limits)
        return stack.enter_context(recorded_by_ray(self.engine, name, texts, *given, *options))

    def _here(self, name: str, texts: Texts) -> Trace:
        """Load the model and record it; it goes when that is done."""
        from kvlens.tracing.recording import record
        from kvlens.tracing.shard_recording import record_shards

        measured = self.measured
        lm = self.model.load(name)
        what = (self.chat.around(lm, self.texts.prompt), measured.points, measured.kept)
        with progress(f"recording {name}") as bar:
            options = {"progress": bar, **asdict(self.limits)}
            if measured.shards:
                return record_shards(lm, texts, measured.shards, *what, resume=True, **options)
            return record(lm, texts, *what, **options)

    def forecast(self, names: list[str]) -> Answer:
        """What recording would take, model after model: it is what takes long."""
        texts = self.read()
        answers = {name: self._forecast(name, texts) for name in names}
        if len(names) == 1:
            return answers[names[0]]
        data = {name: answer.data for name, answer in answers.items()}
        lines = [f"{name}: {answer.text}" for name, answer in answers.items()]
        return Answer(data, "\n".join(lines))

    def _forecast(self, name: str, texts: Texts) -> Answer:
        from kvlens.checks.forecasts import recording
        from kvlens.tracing.shard_recording import SHARD

        lm = self.model.load(name)
        prompt = self.chat.around(lm, self.texts.prompt)
        what = (self.measured.points, self.measured.kept)
        shard = SHARD if self.measured.shards else None
        return forecast_answer(
            recording(lm, texts, prompt, self.limits.to_limits(lm), *what, shard=shard)
        )
