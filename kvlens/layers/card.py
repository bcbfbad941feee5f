"""Card: what a layer set is and how it came about, as the README.md of its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from importlib.resources import files
from typing import TYPE_CHECKING

from kvlens.store.layer_ranges import phrase
from kvlens.store.markdown import markdown_code, markdown_text
from kvlens.store.provenance import Provenance

if TYPE_CHECKING:
    from kvlens.layers.layer_set import LayerSet

CARD_FILE = "README.md"
PICTURE_FILE = "profile.png"
TEMPLATE = "card.md"
CONTENT = "sha256:"  # how a model's revision begins that is no commit of the hub
TAGS = ["kvlens", "layer-set", "text-embeddings", "training-free"]

CONTENTS = {
    "layers.json": "the layer set: layers, bias, prompts, pooling, why, and the profile",
    "profile.json": "intrinsic dimension by layer",
    "post-*.safetensors": "a post-processing, fitted for its encoder",
    "prefix.safetensors": "mean final keys and values of calibration texts",
    "trace.safetensors": "final keys and values of calibration texts",
    PICTURE_FILE: "the picture above",
}


def card_of(layer_set: LayerSet, names: Sequence[str], repo: str = "") -> str:
    """The card of a layer set's folder, as Markdown with the hub's metadata on top.

    Args:
        layer_set: what it is about.
        names: of the files beside it.
        repo: where it is to be had; empty: in a folder of the reader's.

    Returns:
        The content of README.md; words of the layer set are shown as they are, never as markup.
    """
    from huggingface_hub import ModelCard, ModelCardData

    model = layer_set.model
    data = ModelCardData(
        library_name="kvlens",
        pipeline_tag="feature-extraction",
        tags=TAGS,
        base_model=_base_model(layer_set),
    )
    card = ModelCard.from_template(
        data,
        template_str=files("kvlens.layers").joinpath(TEMPLATE).read_text(encoding="utf-8"),
        title=markdown_text(f"Layer set for {model.name}"),
        summary=_summary(layer_set),
        picture=PICTURE_FILE,
        picture_words="Intrinsic dimension by layer, the chosen layers shaded",
        facts=_facts(layer_set),
        warnings=[markdown_text(warning) for warning in layer_set.warnings],
        model=json.dumps(model.name),
        place=json.dumps(f"hf://{repo}" if repo else "FOLDER/layers.json"),
        prompts=_prompts(layer_set),
        provenance=_provenance(layer_set),
        command=markdown_code(layer_set.command) if layer_set.command else "",
        files={markdown_code(name): _content(name) for name in names},
    )
    return card.content + "\n"


def _base_model(layer_set: LayerSet) -> str | None:
    """The model's id at the hub; None where it did not come from there."""
    model = layer_set.model
    return None if model.revision.startswith(CONTENT) or "/" not in model.name else model.name


def _summary(layer_set: LayerSet) -> str:
    model = markdown_text(layer_set.model.name)
    if not layer_set.layers:
        return f"{model} is not re-routed: its prompts and its pooling alone make the embedding."
    return (
        f"Text embeddings without training: in {phrase(layer_set.layers)} of {model}'s "
        f"{layer_set.model.n_layers}, every token also attends to the final token's key and value."
    )


def _facts(layer_set: LayerSet) -> dict[str, str]:
    """What the choice is and why, each value as Markdown."""
    minima = f", minima at {phrase(layer_set.shape.minima)}" if layer_set.shape.minima else ""
    facts = {
        "layers": f"{phrase(layer_set.layers)} of {layer_set.model.n_layers} (0-based)",
        "rule": layer_set.rule_words,
        "reason": layer_set.reason,
        "shape of the profile": f"{layer_set.shape.name}{minima}",
        "stability": layer_set.stability_words,
        "bias": f"{layer_set.bias}",
        "key's position": layer_set.position,
        "pooling": layer_set.pooling,
        "read": layer_set.reading,
        "changes to the prefix": _changes(layer_set),
    }
    return _in_markdown(facts)


def _in_markdown(facts: Mapping[str, str]) -> dict[str, str]:
    return {name: markdown_text(value) for name, value in facts.items() if value}


def _prompts(layer_set: LayerSet) -> dict[str, str]:
    prompts = {"query": layer_set.prompts.query, "document": layer_set.prompts.document}
    return {
        name: markdown_code(f"{prompt.prefix}{{text}}{prompt.suffix}")
        for name, prompt in prompts.items()
    }


def _changes(layer_set: LayerSet) -> str:
    return ", ".join(f"{name} {value}" for name, value in layer_set.control.changes.items())


def _provenance(layer_set: LayerSet) -> dict[str, str]:
    profile = layer_set.profile
    origin = Provenance.of(layer_set)
    texts = f"{profile.texts.n} from {profile.texts.source} (sha256 {profile.texts.sha256[:16]})"
    facts = {
        "model": f"{layer_set.model.name}, {layer_set.model.architecture}",
        "revision": layer_set.model.revision,
        "tokenizer": layer_set.model.tokenizer,
        "calibration texts": texts,
        "prompt around them": profile.prompt.name,
        "versions": origin.versions_line,
        "taken from": layer_set.origin or "",
    }
    return _in_markdown(facts)


def _content(name: str) -> str:
    """What a file is, in words."""
    return next(words for pattern, words in CONTENTS.items() if fnmatch(name, pattern))
