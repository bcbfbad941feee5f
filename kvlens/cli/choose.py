"""`kvlens choose`: how to embed with a model, in one screen."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from kvlens.cli.answers import Answer, forecast_answer
from kvlens.cli.folders import check_new_file, run_folder
from kvlens.cli.options import (
    TEXTS,
    DryRun,
    LengthOptions,
    ModelName,
    ModelOptions,
    TextOptions,
)
from kvlens.cli.progress import progress
from kvlens.cli.swap import recover
from kvlens.cli.values import Dashed, Layers, Names, Numbers, WholeNumber, data_name
from kvlens.store.errors import InputError

if TYPE_CHECKING:
    from kvlens.dimension.profile import IDProfile
    from kvlens.models.language_model import LanguageModel
    from kvlens.studies.decision import Decision
    from kvlens.texts.pairs import Pairs
    from kvlens.texts.texts import Texts


@Parameter(name="*", group=TEXTS)
@dataclass(frozen=True, kw_only=True)
class JudgingTexts(TextOptions):
    """What the embeddings are judged by.

    Attributes:
        texts: wikipedia, news, or a file of passages whose ids are "ARTICLE #number"
        pairs: .jsonl, .csv, hf://ORG/NAME, ... with sentence1, sentence2, score, in place of them
        n: how many passages or pairs, in three parts [default: 400 passages, or all pairs]
    """

    texts: Dashed | None = None
    pairs: Dashed | None = None
    n: WholeNumber | None = None

    def judging(self) -> tuple[Texts | None, Pairs | None]:
        """Passages or pairs; raises InputError for both."""
        from kvlens.texts.pairs import read_pairs

        if self.pairs is None:
            return self.read(self.n or 400), None
        if self.texts is not None:
            raise InputError("`texts` and `pairs` both judge: give one of them")
        return None, read_pairs(self.pairs, self.n)


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Contending:
    """What contends.

    Attributes:
        profile: profile.json: what each rule chooses, too [default: that of runs/MODEL]
        methods: further methods with settings, such as kv_embedding:layers=7-8
        widths: window widths such as 1,4 [default: that of the rules]
        biases: biases such as 1,3
        posts: post-processing that finalists are tried with beside none, or none
        finalists: how many ways are judged finely
    """

    profile: Path | None = None
    methods: Names = ()
    widths: Layers | None = None
    biases: Numbers = (1.0, 3.0)
    posts: Names = ("zscore",)
    finalists: WholeNumber = 12

    def read_profile(self, model: str) -> IDProfile | None:
        """The profile that was named, or that of the model's run where there is one."""
        from kvlens.dimension.profile import IDProfile

        usual = run_folder(model) / "profile.json"
        path = self.profile or usual
        recover(path.parent)
        return IDProfile.load(path) if self.profile or usual.exists() else None

    @property
    def options(self) -> dict[str, Any]:
        """As `kvlens.choose` takes them."""
        posts = [post for post in self.posts if post != "none"]
        return {"methods": self.methods, "posts": posts, "finalists": self.finalists}


def choose(
    name: ModelName,
    /,
    *,
    texts: JudgingTexts = JudgingTexts(),
    contending: Contending = Contending(),
    lengths: LengthOptions = LengthOptions(),
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    overwrite: bool = False,
    model: ModelOptions = ModelOptions(),
    dry: DryRun = DryRun(),
) -> Answer:
    """How to embed with a model: method, prompt, post-processing, layers or none.

    Without labels: passages have to find their article, their other half, a damaged copy.

    Args:
        name: named model, hub id, directory or .gguf file
        texts: what judges
        contending: what is tried
        lengths: how long a text may be
        output: file to write [default: runs/MODEL/decision.json]
        overwrite: replace an existing file
        model: how it is loaded
        dry: whether anything is done at all
    """
    from kvlens.studies import choosing

    file = output or run_folder(name) / "decision.json"
    check_new_file(file, overwrite)
    passages, pairs = texts.judging()
    profile = contending.read_profile(name)
    data = data_name(texts.pairs) if texts.pairs else ""
    lm = model.load(name, hooked=False)
    judging = (passages, pairs, profile, contending.widths, contending.biases)
    options = {**contending.options, "data": data, **asdict(lengths)}
    if dry.dry_run:
        return _forecast(lm, judging, options)
    decision = choosing.choose(lm, *judging, bars=progress, **options)
    decision.save(file)
    text = f"{decision}\nwritten to {file}\nto embed by it: {_use(name, decision)}"
    return Answer(decision.model_dump(mode="json"), text, place=file)


def _forecast(lm: LanguageModel, judging: tuple[Any, ...], options: dict[str, Any]) -> Answer:
    """What it would take, as far as that is known before."""
    from kvlens.checks.forecasts import passes
    from kvlens.studies.rehearsal import expected_passes

    return forecast_answer(passes(expected_passes(lm, *judging, **options)))


def _use(name: str, decision: Decision) -> str:
    """The command that embeds as was decided."""
    post = f" --fit-post {decision.chosen.post}" if decision.chosen.post else ""
    method = shlex.quote(decision.chosen.method)
    return f"kvlens embed {shlex.quote(name)} --method {method}{post} -i TEXTS -o VECTORS.npy"
