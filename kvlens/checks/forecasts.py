"""Forecasts: of the jobs that are long, each by what it does with a text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import partial

from kvlens.checks.forecast import Forecast, Job, Sample, forecast
from kvlens.embedding.encoder import Encoder
from kvlens.embedding.file_options import FileRun
from kvlens.embedding.planned_pass import PlannedPass
from kvlens.models.language_model import LanguageModel
from kvlens.store.errors import InputError
from kvlens.texts.limits import Limits
from kvlens.texts.prompts import Prompt
from kvlens.texts.texts import Texts
from kvlens.texts.tokens import tokenize
from kvlens.tracing.kinds import Points
from kvlens.tracing.recording import record
from kvlens.tracing.spans import LAST

FLOAT = 4  # bytes
A_FEW = 8  # texts whose bytes are counted
COPIES_WRITTEN = 2  # finished chunks, and the file that is made of them


def embedding(encoder: Encoder, texts: Iterable[str], run: FileRun) -> Forecast:
    """What `embed_file` will take.

    Args:
        encoder: what makes the vectors.
        texts: all, read once.
        run: how they are embedded.

    Returns:
        The forecast; texts that come twice are counted twice.

    Raises:
        InputError: where there is no text, and as `Encoder.encode`.
    """
    sample = _sample(texts)
    encode = partial(
        encoder.encode,
        prompt_name=run.kind,
        normalize_embeddings=run.normalize,
        truncate_dim=run.truncate_dim,
        show_progress_bar=False,
    )
    width = len(encode(sample.texts[0]))
    held = min(run.window, sample.n) * width * FLOAT
    disk = COPIES_WRITTEN * sample.n * width * FLOAT
    return forecast([Job(sample, _lengths(encoder, run.kind, sample), encode)], held, disk)


def passes(planned: Sequence[PlannedPass], is_written: bool = False) -> Forecast:
    """What passes will take whose vectors are held until the last of a pass is there.

    Args:
        planned: at least one pass.
        is_written: whether the vectors are written, too.

    Returns:
        The forecast; its texts are counted once, however many passes they take.

    Raises:
        InputError: where there is no text, and as `Encoder.encode`.
    """
    n_bytes = [each.vectors_a_text * FLOAT * len(each.texts) for each in planned]
    return forecast(
        [_job(each) for each in planned],
        held=max(n_bytes),
        disk=sum(n_bytes) if is_written else 0,
        n_texts=len({text for each in planned for text in each.texts}),
    )


def _job(planned: PlannedPass) -> Job:
    encoder = planned.encoders[0]
    sample = _sample(planned.texts)
    work = partial(encoder.encode, prompt_name=planned.kind, show_progress_bar=False)
    return Job(sample, _lengths(encoder, planned.kind, sample), work, planned.times)


def _lengths(encoder: Encoder, kind: str, sample: Sample) -> list[int]:
    """The tokens of each text of a sample."""
    tokenized = encoder.tokenize(sample.texts, encoder.prompt_for(kind))
    return [len(text.ids) for text in tokenized]


def recording(
    lm: LanguageModel,
    texts: Texts,
    prompt: Prompt,
    limits: Limits,
    points: Points,
    keep: Sequence[str],
    layers: Sequence[int] | None = None,
    tokens: Sequence[str] = (LAST,),
    shard: int | None = None,
) -> Forecast:
    """What recording will take.

    Args:
        lm: the model.
        texts: what is recorded.
        prompt: placed around each.
        limits: how long a text may be, how much goes into a batch.
        points: as in `record`.
        keep: as in `record`.
        layers: as in `record`.
        tokens: as in `record`.
        shard: how many texts are held at a time and written; None: all are held, none is written.

    Returns:
        The forecast.

    Raises:
        InputError: as `record`.
    """
    sample = _sample(texts.items)
    work = partial(
        record,
        lm,
        prompt=prompt,
        points=points,
        keep=keep,
        layers=layers,
        tokens=tokens,
        **asdict(limits),
    )
    few = sample.texts[:A_FEW]
    n_bytes = sum(tensor.nbytes for tensor in work(texts=few).tensors.values()) / len(few)
    longest = limits.tokens_for(lm.info.max_positions)
    tokenized = tokenize(lm.tokenizer, sample.texts, prompt, longest, limits.strict)
    lengths = [len(text.ids) for text in tokenized]
    held = round(min(shard or sample.n, sample.n) * n_bytes)
    disk = round(sample.n * n_bytes) if shard else 0
    return forecast([Job(sample, lengths, lambda some: work(texts=some))], held, disk)


def _sample(texts: Iterable[str]) -> Sample:
    sample = Sample.of(texts)
    if not sample.n:
        raise InputError("there are no texts")
    return sample
