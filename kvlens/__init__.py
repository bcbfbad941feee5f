"""kvlens: what a decoder-only LLM stores in its final token's keys and values, layer by layer."""

import importlib
import sys
import types
from typing import Any

__version__ = "0.1.0"

# Public name -> module. Resolved on first use, so that `import kvlens` imports neither torch nor matplotlib.
_HOME = {
    "InputError": "files",
    "Prompt": "prompts",
    "PROMPTS": "prompts",
    "Texts": "texts",
    "read_texts": "texts",
    "calibration_texts": "wikipedia",
    "articles": "wikipedia",
    "LanguageModel": "models",
    "ModelInfo": "models",
    "load": "models",
    "Trace": "trace",
    "record": "trace",
    "IDEstimate": "dimension",
    "IDProfile": "dimension",
    "estimate": "dimension",
    "estimate_points": "dimension",
    "LayerSet": "layers",
    "select": "layers",
    "check": "parity",
    "reroute": "reroute",
    "Encoder": "encoder",
    "as_sentence_transformer": "encoder",
    "Method": "methods",
    "Post": "post",
    "AttentionShift": "attention",
    "attention_shift": "attention",
    "attention_patterns": "attention",
    "kv_lens": "lens",
    "KVLens": "lens",
    "Geometry": "geometry",
    "sweep": "sweep",
    "study": "study",
    "evaluate": "evaluate",
    "find_tasks": "tasks",
    "long_articles": "long_context",
    "mteb_encoder": "evaluate",
    "Scores": "evaluate",
    "embed_file": "embed",
    "load_vectors": "embed",
    "report": "report",
    "plots": "plots",
    "plot_profile": "plots",
    "plot_beta": "attention_plots",
    "plot_ends": "attention_plots",
    "plot_patterns": "attention_plots",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kvlens' has no attribute {name!r}")
    module = importlib.import_module(f"kvlens.{_HOME[name]}")
    value = module if name == _HOME[name] and not hasattr(module, name) else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(types.ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing kvlens.reroute would put the module where the function `kvlens.reroute` belongs.
        if not (name in _HOME and name != "plots" and isinstance(value, types.ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
