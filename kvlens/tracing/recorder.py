"""Recorder: texts run through the model, and hooks keep what the final token holds.

1. Tokenize every text inside the prompt.
2. Run length-sorted batches through the bridge, without its LM head and no further than the last
   layer asked for; through raw transformers where the bridge shows other states.
3. Hooks copy, for each text, only the rows that are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kvlens.models.language_model import LanguageModel
from kvlens.models.short_memory import computed
from kvlens.store.errors import InputError
from kvlens.store.progress import Progress
from kvlens.store.room import Room
from kvlens.texts.batches import TokenBatch, batches
from kvlens.texts.limits import Limits
from kvlens.texts.prompts import Prompt
from kvlens.texts.tokens import TokenizedText, tokenize
from kvlens.tracing.buffers import Buffers
from kvlens.tracing.hooks import record_batch
from kvlens.tracing.request import Request
from kvlens.tracing.source import KEYS_AND_VALUES, Source
from kvlens.tracing.sourcing import source_of
from kvlens.tracing.spans import places_of

# A pass through the bridge costs more than one through the raw model, whatever its size.
BUSY_TOKENS = 1024


@dataclass(frozen=True)
class Recorder:
    """How texts are recorded.

    Attributes:
        lm: the model.
        prompt: around each text.
        request: what is kept.
        limits: of the forward passes.
        padding_side: ``left`` or ``right``.
        source: where each kind of state is read.
        room: most padded tokens of a batch; they become fewer where memory is short.
    """

    lm: LanguageModel
    prompt: Prompt
    request: Request
    limits: Limits
    padding_side: str
    source: Source
    room: Room

    @classmethod
    def of(
        cls,
        lm: LanguageModel,
        prompt: Prompt,
        request: Request,
        limits: Limits,
        padding_side: str = "right",
    ) -> Recorder:
        """A recorder that the model can serve; see `Recorder`, and raises InputError otherwise."""
        source = source_of(lm)
        if request.raw_alone:
            reason = f"{request.raw_alone} are read in raw transformers"
            source = replace(source, tree="raw", again=KEYS_AND_VALUES, reason=reason)
        architecture = lm.info.architecture
        if request.patterns and source.tree == "raw":
            raise InputError(f"cannot record patterns of {architecture}: {source.reason}")
        if padding_side not in source.sides:
            raise InputError(f"{architecture} sees padding on the {padding_side}: pad right")
        room = Room(limits.batch_tokens)
        return cls(lm, prompt, request, limits, padding_side, source, room)

    @property
    def max_length(self) -> int:
        """Most tokens of a text, prompt included."""
        return self.limits.tokens_for(self.lm.info.max_positions)

    def tokenized(self, texts: Sequence[str]) -> list[TokenizedText]:
        """The texts as ids, inside the prompt; raises InputError as `tokenize`."""
        strict = self.limits.strict
        return tokenize(self.lm.tokenizer, texts, self.prompt, self.max_length, strict)

    def recorded(self, tokenized: Sequence[TokenizedText], progress: Progress) -> Buffers:
        """What is kept of texts.

        Args:
            tokenized: at least one.
            progress: called with (texts done, texts).

        Returns:
            The buffers, filled.

        Raises:
            InputError: on NaN or infinity, inside a `with reroute` block, and for a model in train
                mode.
        """
        lengths = [len(text.ids) for text in tokenized]
        spans = {
            name: [places_of(name, text) for text in tokenized] for name in self.request.tokens
        }
        buffers = Buffers(self.lm.anatomy, self.lm.info, self.request, lengths, spans)
        done = 0

        def into_buffers(batch: TokenBatch) -> None:
            record_batch(self.lm, batch, self.request, buffers, self.source)

        for batch, _ in computed(self._padded(tokenized), into_buffers, self.room):
            done += len(batch.rows)
            progress(done, len(lengths))
        buffers.check_filled()
        return buffers

    def _padded(self, tokenized: Sequence[TokenizedText]) -> Iterator[TokenBatch]:
        return batches(
            tokenized,
            self.lm.tokenizer.pad_token_id,
            self.room.tokens,
            side=self.padding_side,
            device=self.lm.device,
            busy_tokens=BUSY_TOKENS,
        )
