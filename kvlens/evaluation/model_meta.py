"""Model meta: what mteb and its leaderboard say of an encoder, told from the model itself."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from kvlens.embedding.encoder import Encoder
from kvlens.embedding.post import Post
from kvlens.models.catalog import NAMED
from kvlens.models.hub import cached_folder
from kvlens.models.info import ModelInfo
from kvlens.models.language_model import LanguageModel
from kvlens.models.present import CONTENT
from kvlens.store.artifact import first_problem
from kvlens.store.errors import LONGEST_REASON, InputError, shortened
from kvlens.store.provenance import versions

MEGABYTE = 1 << 20
ABOUT = (
    "release_date",
    "languages",
    "license",
    "public_training_code",
    "public_training_data",
    "reference",
    "training_datasets",
    "adapted_from",
    "superseded_by",
    "citation",
    "contacts",
)
"""What only people know of a model: fields of mteb's ModelMeta that decide no score."""
LICENCES = {"Apache-2.0": "apache-2.0", "Gemma terms of use": "gemma"}  # in mteb's words


def model_meta(encoder: Encoder, facts: Mapping[str, Any], about: Mapping[str, Any]) -> Any:
    """Mteb's ModelMeta of an encoder, without what loads it.

    Args:
        encoder: what embeds.
        facts: what else decides a score.
        about: fields of `ABOUT`, which go before what is found out here.

    Returns:
        The ModelMeta. No data is named on which the model was trained: kvlens trains nothing, and
        what the language model has read is not known.

    Raises:
        InputError: for other fields, and values that mteb does not take.
    """
    from mteb.models.model_meta import ModelMeta

    others = [name for name in about if name not in ABOUT]
    if others:
        raise InputError(f"`about` has {others[0]!r}: give {', '.join(ABOUT)}")
    fields = {**_described(encoder), **about, **_deciding(encoder, facts)}
    try:
        return ModelMeta.model_validate(fields)
    except ValidationError as error:
        problem = shortened(first_problem(error), LONGEST_REASON)
        raise InputError(f"mteb does not take `about`: {problem}") from error


def _deciding(encoder: Encoder, facts: Mapping[str, Any]) -> dict[str, Any]:
    """By what mteb files its results."""
    info = encoder.lm.info
    deciding = {
        "encoder": encoder.signature,
        "post": encoder.post and _fingerprint(encoder.post),
        "versions": versions_with_mteb(),
        **facts,
    }
    return {
        "loader": None,
        "loader_kwargs": {
            "settings": encoder.method.settings(),
            "max_length": encoder.max_length,
            **deciding,
        },
        "name": f"kvlens/{Path(info.name).name}",
        "revision": info.revision.removeprefix(CONTENT)[:40],
        # Names the folder of the results: another order or another key, and none is resumed.
        "experiment_kwargs": {
            "method": encoder.method.name,
            "post": encoder.post and encoder.post.kind,
            **facts,
            "hash": _hash(json.dumps(deciding, sort_keys=True).encode()),
        },
    }


def _described(encoder: Encoder) -> dict[str, Any]:
    """What the leaderboard shows and filters by."""
    prompts = (encoder.method.query, encoder.method.document)
    reference = _page(encoder.lm.info)
    return {
        **_sizes(encoder.lm),
        **dict.fromkeys(ABOUT),
        "embed_dim": _dimension(encoder),
        "max_tokens": encoder.max_length,
        "framework": ["PyTorch", "Transformers"],
        "similarity_fn_name": "cosine",
        "use_instructions": any(prompt.prefix or prompt.suffix for prompt in prompts),
        "open_weights": True,
        "license": _licence(encoder.lm.info),
        "reference": reference,
        "adapted_from": encoder.lm.info.name if reference else None,
    }


def _sizes(lm: LanguageModel) -> dict[str, Any]:
    words = lm.hf.get_input_embeddings()
    return {
        "n_parameters": lm.hf.num_parameters(),
        "n_embedding_parameters": words.weight.numel(),
        "memory_usage_mb": round(lm.hf.get_memory_footprint() / MEGABYTE),
    }


def _dimension(encoder: Encoder) -> int:
    if encoder.post is not None:
        return int(encoder.post.matrix.shape[1])
    return encoder.method.width(encoder.lm)


def _page(info: ModelInfo) -> str | None:
    """The model's page at the hub; None for one that did not come from there."""
    if info.revision.startswith(CONTENT) or "/" not in info.name:
        return None
    return f"https://huggingface.co/{info.name}"


def _licence(info: ModelInfo) -> str | None:
    """What the catalog says, or else the model's own card where it lies beside the weights."""
    if info.name in NAMED:
        return LICENCES[NAMED[info.name].licence]
    folder = Path(info.name) if _page(info) is None else cached_folder(info.name, info.revision)
    card = folder / "README.md" if folder else None
    if card is None or not card.is_file():
        return None
    return _licence_of(card)


def _licence_of(card: Path) -> str | None:
    """The licence of a card, in mteb's words; None where it says none that mteb knows."""
    from huggingface_hub import ModelCard
    from mteb.types import Licenses

    try:
        licence = ModelCard(card.read_text(encoding="utf-8")).data.get("license")
    except (OSError, ValueError):  # of a user's own making
        return None
    return licence if licence in get_args(Licenses) else None


def _fingerprint(post: Post) -> list[Any]:
    """What tells a post-processing from others.

    The mean tells the calibration texts; the matrix follows from them up to rounding, which varies
    with threads.
    """
    return [post.kind, post.n, round(post.shrinkage, 6), post.matrix.shape, _hash(post.mean)]


def _hash(content: Any) -> str:
    return sha256(content).hexdigest()[:16]


def versions_with_mteb() -> dict[str, str]:
    """The versions that a score depends on."""
    return versions() | {"mteb": importlib.metadata.version("mteb")}
