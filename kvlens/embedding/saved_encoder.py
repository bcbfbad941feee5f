"""Saved encoder: a folder with a model, a method and a post-processing; it gives the same vectors.

It knows no sentence-transformers: `sentence_module` puts this folder into one of theirs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from kvlens.embedding.encoder import BATCH_TOKENS, Encoder
from kvlens.embedding.post import Post
from kvlens.methods.base import Method
from kvlens.methods.registry import get_method
from kvlens.models.identity import tokenizer_id
from kvlens.models.info import ModelInfo
from kvlens.models.language_model import LanguageModel
from kvlens.models.loading import load
from kvlens.models.locating import locate
from kvlens.models.quiet import quietly
from kvlens.models.tokenizer import read_tokenizer
from kvlens.rerouting.calibration import Calibration
from kvlens.store.artifact import JsonArtifact
from kvlens.store.bounds import Count
from kvlens.store.errors import InputError
from kvlens.store.provenance import current_command, versions
from kvlens.texts.prompts import Prompt

RECORD = "encoder.json"
MODEL = "model"
POST = "post.safetensors"
CALIBRATION = "calibration.safetensors"
PROMPTS = ("query", "document")
DYNAMIC = "transformers_modules"  # where transformers puts code that a checkpoint brings


class SavedEncoder(JsonArtifact):
    """What makes an encoder again, beside the files of its model.

    Attributes:
        model: as it was when the encoder was saved.
        content: revision of the model's folder.
        method: its name.
        settings: of the method, by name; prompts by their fields, a calibration by its hash.
        max_length: most tokens of a text with its prompt.
        batch_tokens: most padded tokens of a batch.
        strict: whether a longer text is refused.
        post: the kind of post-processing, or None.
        versions: package -> version.
        command: the command line; empty in a notebook.
    """

    what: ClassVar[str] = "a saved encoder"
    again: ClassVar[str] = "save it again"

    format: Literal["kvlens.encoder"] = "kvlens.encoder"
    version: Literal[1] = 1
    model: ModelInfo
    content: str
    method: str
    settings: dict[str, Any]
    max_length: Count
    batch_tokens: Count
    strict: bool
    post: str | None
    versions: dict[str, str]
    command: str


def save_encoder(encoder: Encoder, folder: Path) -> SavedEncoder:
    """Write an encoder with its model, tokenizer, calibration and post-processing.

    Args:
        encoder: any.
        folder: is made; what it holds of another encoder is replaced.

    Returns:
        What was written beside the weights.

    Raises:
        InputError: for a model with code of its own, and a tokenizer that does not come back equal.
    """
    _refuse_code_of_its_own(encoder.lm)
    content = _save_model(encoder.lm, folder / MODEL)
    calibration = getattr(encoder.method, "calibration", None)
    if calibration is not None:
        Calibration.of(calibration).states.save(folder / CALIBRATION)
    if encoder.post is not None:
        encoder.post.save(folder / POST)
    record = SavedEncoder(
        model=encoder.lm.info,
        content=content,
        method=encoder.method.name,
        settings=json.loads(json.dumps(encoder.method.settings())),  # as they come back
        max_length=encoder.max_length,
        # What was chosen for the memory of one device is not for another.
        batch_tokens=BATCH_TOKENS if encoder.chose_batches else encoder.batch_tokens,
        strict=encoder.strict,
        post=encoder.post.kind if encoder.post else None,
        versions=versions(),
        command=current_command(),
    )
    record.save(folder / RECORD)
    return record


def load_encoder(folder: Path, dtype: str | None = None, device_map: Any = None) -> Encoder:
    """Read what `save_encoder` wrote; no code of the folder is run.

    Args:
        folder: that was written.
        dtype: of the weights; default: as they were.
        device_map: see `kvlens.load`.

    Returns:
        An encoder of the same vectors and, in the same dtype, of the same signature.

    Raises:
        InputError: for a folder that was changed, and as `kvlens.load`.
    """
    record = SavedEncoder.load(folder / RECORD)
    usual = record.model.dtype.rpartition("-")[2]  # of "nf4-float32" what is not quantized
    loaded = load(folder / MODEL, dtype=dtype or usual, device_map=device_map)
    if loaded.info.revision != record.content:
        raise InputError(f"{folder / MODEL} has changed since the encoder was saved: save it again")
    origin = {"name": record.model.name, "revision": record.model.revision}
    lm = replace(loaded, info=loaded.info.model_copy(update=origin))
    encoder = Encoder(
        lm,
        _method(record, folder),
        max_length=record.max_length,
        batch_tokens=record.batch_tokens,
        strict=record.strict,
    )
    if record.post is not None:
        encoder.post = Post.load(folder / POST)
    return encoder


def _save_model(lm: LanguageModel, folder: Path) -> str:
    """Write weights and tokenizer; the revision of their folder."""
    with lm.turn(), quietly():
        lm.hf.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    again = read_tokenizer(str(folder), folder, {})
    if tokenizer_id(again) != lm.info.tokenizer:
        raise InputError(f"the tokenizer of {lm.info.name} does not come back from a file as it is")
    return str(locate(str(folder)).revision)


def _refuse_code_of_its_own(lm: LanguageModel) -> None:
    if type(lm.hf).__module__.startswith(DYNAMIC):
        raise InputError(
            f"{lm.info.name} runs code of its own, which is not saved with an encoder: "
            "keep its layer set, and make the encoder again"
        )


def _method(record: SavedEncoder, folder: Path) -> Method:
    """The method of a record, its prompts and calibration as values again."""
    settings = {name: _with_numbers(value) for name, value in record.settings.items()}
    for name in PROMPTS:
        settings[name] = Prompt.model_validate(settings[name])
    if "calibration" in settings:
        settings["calibration"] = Calibration.of(folder / CALIBRATION)
    return get_method(record.method, **settings)


def _with_numbers(value: Any) -> Any:
    """A mapping of layers with whole numbers again, which JSON has as texts."""
    if isinstance(value, dict) and value and all(key.isdecimal() for key in value):
        return {int(key): by_layer for key, by_layer in value.items()}
    return value
