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
STRETCH = 32  # texts of the sample that are worked on at a time
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


def forecast(
    sample: Sample, lengths: Sequence[int], work: Work, held: int, disk: int, passes: int = 1
) -> Forecast:
    """What a job will take.

    Args:
        sample: of its texts.
        lengths: tokens of each text of the sample, prompt included.
        work: what the job does with texts in one pass.
        held: bytes that it holds beside the model.
        disk: bytes that it writes.
        passes: how many passes a text takes.

    Returns:
        The forecast.

    Raises:
        InputError: as `work`.
    """
    speed = _tokens_per_second(sample, lengths, work)
    return Forecast(
        texts=sample.n,
        tokens=passes * sample.total(sum(lengths)),
        tokens_per_second=speed,
        memory=psutil.Process().memory_info().rss + held,
        disk=disk,
        is_sample=len(sample.texts) < sample.n,
    )


def _tokens_per_second(sample: Sample, lengths: Sequence[int], work: Work) -> float:
    """Stretches of the sample are worked on until some seconds are over."""
    work(sample.texts[:1])  # what is found out about a model takes a pass of its own
    start = time.perf_counter()
    seconds = 0.0
    done = 0
    while done < len(sample.texts) and seconds < SECONDS:
        work(sample.texts[done : done + STRETCH])
        done = min(done + STRETCH, len(sample.texts))
        seconds = time.perf_counter() - start
    return sum(lengths[:done]) / seconds
