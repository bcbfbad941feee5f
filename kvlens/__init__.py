"""kvlens: what a decoder-only LLM stores in its final token's keys and values, layer by layer."""

import importlib
import os
from typing import Any

from kvlens.store.errors import InputError as InputError
from kvlens.store.facts import PICTURE_FILES, PICTURES
from kvlens.store.opening import READERS, open_saved

__version__ = "0.2.0"

# Public name -> its room. Resolved on first use: importing kvlens imports neither torch nor
# matplotlib.
_HOME = {
    "Prompt": "texts.prompts",
    "PROMPTS": "texts.prompts",
    "Texts": "texts.texts",
    "read_texts": "texts.readers",
    "calibration_texts": "texts.wikipedia",
    "articles": "texts.wikipedia",
    "news_texts": "texts.news",
    "LanguageModel": "models.language_model",
    "ModelInfo": "models.info",
    "load": "models.loading",
    "chat": "models.chat_prompt",
    "Trace": "tracing.trace",
    "record": "tracing.recording",
    "record_shards": "tracing.shard_recording",
    "IDEstimate": "dimension.profile",
    "IDProfile": "dimension.profile",
    "estimate": "dimension.estimation",
    "estimate_points": "dimension.estimation",
    "LayerSet": "layers.layer_set",
    "select": "layers.selection",
    "check": "checks.parity",
    "CheckResult": "checks.check_result",
    "reroute": "rerouting.door",
    "Route": "layers.route",
    "calibration": "rerouting.calibration",
    "StaticPrefix": "rerouting.static_prefix",
    "static_prefix": "rerouting.static_prefix",
    "Encoder": "embedding.encoder",
    "as_sentence_transformer": "embedding.sentence_transformer",
    "SavedEncoder": "embedding.saved_encoder",
    "Method": "methods.base",
    "Post": "embedding.post",
    "AttentionShift": "analysis.attention",
    "AttentionPatterns": "analysis.attention",
    "attention_shift": "analysis.uptake",
    "attention_patterns": "analysis.uptake",
    "kv_lens": "analysis.lens",
    "KVLens": "analysis.lens",
    "word_lens": "analysis.word_reading",
    "WordLens": "analysis.word_lens",
    "low_rank": "analysis.low_rank_cuts",
    "LowRank": "analysis.low_rank",
    "pair_parts": "analysis.pair_reading",
    "PairParts": "analysis.pair_parts",
    "probe_tokens": "analysis.probe_choices",
    "ProbeTokens": "analysis.probe_tokens",
    "Geometry": "analysis.method_geometry",
    "Sweep": "studies.layer_sweep",
    "LayerStudy": "studies.regret",
    "ReadoutSweep": "studies.readout_sweep",
    "readout_sweep": "studies.readout_sweep",
    "sweep": "studies.layer_sweep",
    "choose": "studies.choosing",
    "Decision": "studies.decision",
    "effects": "studies.effects",
    "Effects": "studies.effects",
    "study": "studies.regret",
    "evaluate": "evaluation.run",
    "find_tasks": "evaluation.tasks",
    "long_articles": "evaluation.long_texts",
    "mteb_encoder": "evaluation.adapter",
    "Scores": "evaluation.scores",
    "embed_file": "embedding.file_run",
    "load_vectors": "embedding.vectors",
    "report": "reporting.page",
    "attention_widget": "reporting.attention_widget",
    "verify": "reporting.agreement",
    "Verification": "reporting.verification",
    "plot_profile": "plots.profile",
    "plot_beta": "plots.uptake",
    "plot_ends": "plots.uptake",
    "plot_decimation": "plots.decimation",
    "plot_decision": "plots.decision",
    "plot_effects": "plots.effects",
    "plot_low_rank": "plots.low_rank",
    "plot_pair_parts": "plots.pair_parts",
    "plot_patterns": "plots.patterns",
    "plot_own_words": "plots.own_words",
    "plot_words": "plots.word_grid",
}

# Format of a saved file -> what loads it.
_LOADERS = {
    "kvlens.attention-patterns": "AttentionPatterns",
    "kvlens.attention-shift": "AttentionShift",
    "kvlens.check": "CheckResult",
    "kvlens.decision": "Decision",
    "kvlens.effects": "Effects",
    "kvlens.encoder": "SavedEncoder",
    "kvlens.geometry": "Geometry",
    "kvlens.id-profile": "IDProfile",
    "kvlens.kv-lens": "KVLens",
    "kvlens.layer-set": "LayerSet",
    "kvlens.layer-study": "LayerStudy",
    "kvlens.low-rank": "LowRank",
    "kvlens.post": "Post",
    "kvlens.pair-parts": "PairParts",
    "kvlens.probe-tokens": "ProbeTokens",
    "kvlens.readout-sweep": "ReadoutSweep",
    "kvlens.scores": "Scores",
    "kvlens.static-prefix": "StaticPrefix",
    "kvlens.sweep": "Sweep",
    "kvlens.trace": "Trace",
    "kvlens.trace-index": "Trace",
    "kvlens.vectors": "load_vectors",
    "kvlens.word-lens": "WordLens",
}
READERS |= {name: f"kvlens.{_HOME[public]}:{public}" for name, public in _LOADERS.items()}

# What draws a result in a notebook: named here, since results know no pictures.
PICTURES |= dict.fromkeys(
    (
        "IDProfile",
        "AttentionShift",
        "Decision",
        "WordLens",
        "Effects",
        "LayerStudy",
        "ReadoutSweep",
        "Scores",
        "KVLens",
        "Geometry",
        "AttentionPatterns",
        "LowRank",
        "PairParts",
    ),
    "kvlens.plots.pictures:picture",
)
PICTURE_FILES |= {"LayerSet": "kvlens.plots.saving:save_card_picture"}

# Without `open`: a star import must not hide the builtin.
__all__ = sorted([*_HOME, "InputError", "plots"])


def open(path: str | os.PathLike[str]) -> Any:
    """Load any file that kvlens saved, by what it says of itself.

    Args:
        path: .json, .safetensors, or vectors as .npy or .parquet.

    Returns:
        The result: a `LayerSet`, an `IDProfile`, a `Trace`, ...

    Raises:
        InputError: for a file that is none of these, or damaged.
    """
    return open_saved(path)


def __getattr__(name: str) -> Any:
    if name == "plots":
        return importlib.import_module("kvlens.plots")
    if name not in _HOME:
        raise AttributeError(f"module 'kvlens' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"kvlens.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "open"])
