"""Foreign: what a model folder asks for beside its weights, and what of it is refused or set aside.

transformers follows many entries of a foreign config: code and tokenizers of other repositories,
attention kernels from the hub, patches of its modules. kvlens loads what is in the folder, and
decides by itself how it is run.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kvlens.models.checkpoint import CONFIG, Checkpoint, optional_object
from kvlens.store.errors import InputError, shortened

ADAPTER = "adapter_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
TOKENIZER = "tokenizer.json"
ADDED_TOKENS = re.compile(r'"added_tokens"\s*:\s*(?=\[)')
TOKEN_ENTRIES = {
    "__type", "content", "id", "lstrip", "normalized", "rstrip", "single_word", "special",
}  # fmt: skip
# Read by transformers' own kernels, which come from the hub as compiled code.
FETCHING_QUANTIZERS = {
    "eetq", "fbgemm_fp8", "finegrained_fp8", "gguf", "metal", "mxfp8", "nvfp4",
}  # fmt: skip
# What a config may set, and what stands there instead.
SWITCHES = {
    "_attn_implementation": None,  # transformers then takes sdpa where the architecture has it
    "_experts_implementation": None,
    "dtype": None,
    "_output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "fusion_config": None,
    "distributed_config": None,
}


def refuse_foreign(checkpoint: Checkpoint, trust_remote_code: bool) -> None:
    """Refuse a folder that would load or run something from outside of it.

    Args:
        checkpoint: what the folder says of itself.
        trust_remote_code: whether its own code may run; without it transformers ignores `auto_map`
            where it knows the model, and refuses where it does not.

    Raises:
        InputError: with the file and the entry.
    """
    folder = checkpoint.folder
    tokenizer = optional_object(folder / TOKENIZER_CONFIG)
    _refuse_config(folder / CONFIG, checkpoint.config)
    _refuse_tokenizer(folder / TOKENIZER_CONFIG, tokenizer)
    for key in optional_object(folder / SPECIAL_TOKENS):
        if key.endswith("_file"):
            _refuse(folder / SPECIAL_TOKENS, key, "names a file")
    _refuse_odd_tokens(folder, tokenizer)
    if (folder / ADAPTER).exists():
        raise InputError(
            f"{folder / ADAPTER} names an adapter, which kvlens does not load: merge it into the "
            "weights (`merge_and_unload` of peft), or remove the file"
        )
    for file, content in ((CONFIG, checkpoint.config), (TOKENIZER_CONFIG, tokenizer)):
        _refuse_tokenizer_class(folder / file, content.get("tokenizer_class"))
        if trust_remote_code and "--" in str(content.get("auto_map")):
            _refuse(folder / file, "auto_map", "takes code from another repository")


def _refuse_config(file: Path, config: dict[str, Any]) -> None:
    if "configuration_files" in config:
        _refuse(file, "configuration_files", "names another config")
    for part in (config, *config.values()):
        quantized = part.get("quantization_config") if isinstance(part, dict) else None
        method = quantized.get("quant_method") if isinstance(quantized, dict) else None
        if method in FETCHING_QUANTIZERS:
            _refuse(file, "quantization_config", f"({method}) runs kernels from the hub")


def _refuse_tokenizer(file: Path, tokenizer: dict[str, Any]) -> None:
    if tokenizer.get("init_inputs"):
        _refuse(file, "init_inputs", "hands unnamed arguments to the tokenizer")
    names = tokenizer.get("fast_tokenizer_files") or ()
    if not all(isinstance(name, str) and Path(name).name == name for name in names):
        _refuse(file, "fast_tokenizer_files", "names a file outside the folder")


def _refuse_odd_tokens(folder: Path, tokenizer: dict[str, Any]) -> None:
    """Refuse tokens with entries that the tokenizers library does not know: it prints them."""
    special = optional_object(folder / SPECIAL_TOKENS)
    tokens = [(SPECIAL_TOKENS, token) for token in special.values()]
    described = tokenizer.get("added_tokens_decoder")
    if isinstance(described, dict):
        tokens += [(TOKENIZER_CONFIG, token) for token in described.values()]
    elif described is None:
        tokens += [(TOKENIZER, token) for token in _added_tokens(folder / TOKENIZER)]
    tokens += [(TOKENIZER_CONFIG, token) for token in _written_out(tokenizer)]
    for file, token in tokens:
        odd = set(token) - TOKEN_ENTRIES if isinstance(token, dict) else set()
        if odd:
            _refuse(folder / file, min(odd), "is no property of a token")


def _added_tokens(file: Path) -> list[Any]:
    """The tokens that stand beside a vocabulary, which itself is not parsed: it may be large."""
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    tokens = []
    for match in ADDED_TOKENS.finditer(text):
        with contextlib.suppress(ValueError, RecursionError):  # the tokenizer's reader says it
            tokens += json.JSONDecoder().raw_decode(text, match.end())[0]
    return tokens


def _written_out(entries: Any) -> Iterator[dict[str, Any]]:
    """The tokens that stand anywhere in a tokenizer's config."""
    if isinstance(entries, dict):
        if "__type" in entries:
            yield entries
        entries = list(entries.values())
    if isinstance(entries, list):
        for entry in entries:
            yield from _written_out(entry)


def _refuse_tokenizer_class(file: Path, name: Any) -> None:
    """Refuse what is none: the name is looked up among all classes of transformers."""
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    if name is None:
        return
    named = tokenizer_class_from_name(name) if isinstance(name, str) else object()
    is_tokenizer = isinstance(named, type) and issubclass(named, PreTrainedTokenizerBase)
    needs_a_library = hasattr(named, "_backends")  # it stands for a class that cannot be imported
    if named is not None and not is_tokenizer and not needs_a_library:
        _refuse(file, "tokenizer_class", f"({name!r}) is no tokenizer")


def _refuse(file: Path, entry: str, what: str) -> None:
    raise InputError(
        shortened(f"{file}: `{entry}` {what}: take it out, and put what it names into the folder")
    )


def named_files(folder: Path) -> dict[str, None]:
    """Arguments that keep a tokenizer's config from naming its own files.

    Args:
        folder: of the model.

    Returns:
        None for each entry of tokenizer_config.json that names a file: the one in the folder, of
        the usual name, is read.
    """
    entries = optional_object(folder / TOKENIZER_CONFIG)
    return {key: None for key in entries if key.endswith("_file")}


def set_switches_aside(config: Any) -> None:
    """Take out of a config what it says about how it is run.

    Args:
        config: of transformers; it and its parts are changed.
    """
    for part in with_parts(config):
        for switch, ours in SWITCHES.items():
            if hasattr(part, switch):
                setattr(part, switch, ours)


def with_parts(config: Any) -> list[Any]:
    """A config of transformers, and those of its parts at any depth."""
    parts = [config]
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if part is not None:
            parts += with_parts(part)
    return parts
