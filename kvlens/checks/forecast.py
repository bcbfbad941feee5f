"""Forecast: what a long job will take, from a sample of its texts and a short measured pass.

It counts and measures; nothing is written. What a job does with a text is handed in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

SAMPLE = 256  # texts that are tokenized
STRETCH = 32  # the most texts of the sample that are worked on at a time
SECONDS = 10.0  # after which no further stretch is begun
MIB = 2**20

Work = Callable[[Sequence[str]], Any]
"""What the job does with some texts."""


@dataclass(frozen=True)
class Sample:
    """Texts of a job, drawn at random where there are many.

    Attributes:
        n: how many there are in all.
        texts: the sample.
    """

    n: int
    texts: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str], size: int = SAMPLE, seed: int = 0) -> Sample:
        """A sample of texts that are read once and not kept; each is as likely to be in it."""
        rng = random.Random(seed)
        kept: list[str] = []
        n = 0
        for n, text in enumerate(texts, 1):
            if n <= size:
                kept.append(text)
            elif (place := rng.randrange(n)) < size:
                kept[place] = text
        rng.shuffle(kept)
        return cls(n, tuple(kept))

    def total(self, of_sample: float) -> int:
        """What a sum over the sample is for all texts."""
        return round(of_sample * self.n / len(self.texts))


@dataclass(frozen=True)
class Forecast:
    """What a job will take.

    Attributes:
        texts: how many.
        tokens: of all passes, prompts included.
        tokens_per_second: of this machine, as measured.
        memory: bytes of this process with the model, and what the job holds beside it.
        disk: bytes that will be written.
        is_sample: whether tokens were counted in a sample alone.
    """

    texts: int
    tokens: int
    tokens_per_second: float
    memory: int
    disk: int
    is_sample: bool

    @property
    def minutes(self) -> float:
        """How long the passes take."""
        return self.tokens / self.tokens_per_second / 60

    @property
    def data(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "texts": self.texts,
            "tokens": self.tokens,
            "tokens_per_second": round(self.tokens_per_second, 1),
            "minutes": round(self.minutes, 2),
            "memory_MiB": round(self.memory / MIB),
            "disk_MiB": round(self.disk / MIB, 1),
        }

    def __str__(self) -> str:
        about = "about " if self.is_sample else ""
        size = f"{self.texts:,} texts, {about}{self.tokens:,} tokens in all passes"
        speed = f"{self.minutes:.1f} minutes at {self.tokens_per_second:.0f} tokens/s, measured now"
        room = f"{self.memory / MIB:,.0f} MiB of memory, {self.disk / MIB:,.1f} MiB of disk"
        return f"{size}\n{speed}\n{room}"


@dataclass(frozen=True)
class Job:
    """Texts on which the same is done.

    Attributes:
        sample: of them.
        lengths: tokens of each text of the sample, prompt included.
        work: what is done with texts in one pass.
        passes: how many passes a text takes.
    """

    sample: Sample
    lengths: Sequence[int]
    work: Work
    passes: int = 1

    @property
    def tokens(self) -> int:
        """Of all passes."""
        return self.passes * self.sample.total(sum(self.lengths))


def forecast(jobs: Sequence[Job], held: int, disk: int, n_texts: int | None = None) -> Forecast:
    """What jobs will take together.

    Args:
        jobs: at least one; the speed is that of the one of the most tokens.
        held: bytes that are held beside the model.
        disk: bytes that are written.
        n_texts: how many texts; None: those of the only job.

    Returns:
        The forecast.

    Raises:
        InputError: as the work.
    """
    speed = _tokens_per_second(max(jobs, key=lambda job: job.tokens))
    return Forecast(
        texts=jobs[0].sample.n if n_texts is None else n_texts,
        tokens=sum(job.tokens for job in jobs),
        tokens_per_second=speed,
        memory=psutil.Process().memory_info().rss + held,
        disk=disk,
        is_sample=any(len(job.sample.texts) < job.sample.n for job in jobs),
    )


def _tokens_per_second(job: Job) -> float:
    """Speed of the last whole one of stretches, each twice as long: a slow machine is soon done."""
    texts = job.sample.texts
    job.work(texts[:1])  # what is found out about a model takes a pass of its own
    start = time.perf_counter()
    speed = 0.0
    done, size = 0, 1
    while done < len(texts) and time.perf_counter() - start < SECONDS:
        stretch = slice(done, done + size)
        begun = time.perf_counter()
        job.work(texts[stretch])
        done += size
        if done <= len(texts):  # a few texts that are left over fill no batch
            speed = sum(job.lengths[stretch]) / (time.perf_counter() - begun)
        size = min(2 * size, STRETCH)
    return speed
