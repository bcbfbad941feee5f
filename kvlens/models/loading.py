"""Loading: a name, a folder, a GGUF file or a model in memory becomes a `LanguageModel`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from kvlens.models.checkpoint import Checkpoint, read_checkpoint
from kvlens.models.dispatched import device_map_argument
from kvlens.models.foreign import refuse_foreign, set_switches_aside
from kvlens.models.hub import cached_commit, cached_folder, fetch_config
from kvlens.models.in_memory import view_of
from kvlens.models.kind import auto_class_of, refuse_other_than_decoder
from kvlens.models.language_model import LanguageModel
from kvlens.models.locating import locate
from kvlens.models.quantized import convert, refuse_quantized, unpack, without_hub_kernels
from kvlens.models.quiet import quietly
from kvlens.models.refusing import refusing
from kvlens.models.registered import registered_for
from kvlens.models.slow_dtype import tell_of_slow_dtype
from kvlens.models.soundness import (
    refuse_absurd_counts,
    refuse_absurd_sizes,
    refuse_broken_weights,
    refuse_other_weights,
    refuse_unusable,
)
from kvlens.models.tokenizer import a_tokenizer, read_tokenizer, refuse_ids_beyond
from kvlens.models.whereabouts import Whereabouts
from kvlens.store.checking import a, arguments, flag, optional, path_text, text
from kvlens.store.errors import InputError


@arguments(
    name=optional(path_text),
    device=optional(a((str, torch.device), "the name of a device")),
    dtype=optional(text),
    revision=optional(text),
    trust_remote_code=flag,
    device_map=optional(device_map_argument),
    quantize=optional(text),
    model=optional(a(torch.nn.Module, "a causal LM of transformers")),
    tokenizer=optional(a_tokenizer),
)
def load(
    name: str | os.PathLike[str] | None = None,
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    *,
    device_map: str | dict[str, Any] | None = None,
    quantize: str | None = None,
    model: Any = None,
    tokenizer: Any = None,
) -> LanguageModel:
    """Load a decoder-only LLM, or take one that is loaded already.

    Args:
        name: a named small model (see `catalog.NAMED`), a hub id, a local directory, or a
            ``.gguf`` file.
        device: default CUDA when there is one, else CPU.
        dtype: one of `whereabouts.DTYPES`. Default float32 on the CPU (bfloat16 is many times
            slower there), the checkpoint's own on an accelerator.
        revision: branch, tag or commit on the hub.
        trust_remote_code: run code that the checkpoint brings.
        device_map: spread the model by accelerate: ``auto`` over the accelerators that are there,
            then memory, then disk; or a dict from its modules to devices, ``cpu`` and ``disk``.
        quantize: ``int8`` or ``nf4``: quantize the weights by bitsandbytes while they are loaded.
        model: a causal LM of transformers instead of a name, also compiled, in a data-parallel
            container, or with adapters of peft, which are merged into copies of the weights that
            they change. It stays as it is, in train mode or not; all other weights are shared.
        tokenizer: that goes with `model`.

    Returns:
        The model, in eval mode, its parameters without gradients; of files only safetensors are
        read.

    Raises:
        InputError: with one line that says what is wrong and what to do.
    """
    if (name is None) == (model is None):
        raise InputError("give exactly one of `name` and `model`")
    if name is not None:
        if tokenizer is not None:
            raise InputError("`tokenizer` goes with `model`: a named model has its own")
        where = Whereabouts.of(device, dtype, device_map, quantize)
        tell_of_slow_dtype(where.dtype, where.device)
        return _load_named(os.fspath(name), where, revision, trust_remote_code)
    told = {"device": device, "dtype": dtype, "revision": revision, "quantize": quantize}
    for parameter, value in (told | {"device_map": device_map}).items():
        if value is not None:
            raise InputError(f"`{parameter}` is for a model that is loaded by name")
    return _take(model, tokenizer)


def _load_named(
    name: str, where: Whereabouts, revision: str | None, trust_remote_code: bool
) -> LanguageModel:
    place = locate(name, trust_remote_code)
    options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    with quietly(), without_hub_kernels(), refusing(f"cannot load {name}"):
        checkpoint = _inspected(place.source, revision, trust_remote_code)
        fetched = fetch_config(place.source, name, options)
        options |= {"local_files_only": fetched.is_local}
        config = fetched.config
        refuse_other_than_decoder(config, name)
        refuse_quantized(config.to_dict(), where.quantize, name)
        was_packed = unpack(config)
        options_of_place = where.options(config)
        set_switches_aside(config)
        if checkpoint is not None:
            _refuse_sizes(checkpoint, config, name, trust_remote_code)
        folder = checkpoint.folder if checkpoint else None
        tokenizer = read_tokenizer(place.source, folder, options)
        refuse_ids_beyond(tokenizer, config, name)
        hf = _model(place.source, config, name, options | options_of_place)
        if was_packed:
            convert(hf, options_of_place["dtype"])
        known_revision = place.revision or cached_commit(place.source, revision) or "unknown"
        lm = LanguageModel.wrap(where.placed(hf), tokenizer, name, known_revision)
        refuse_unusable(lm)
    return lm


def _take(model: Any, tokenizer: Any) -> LanguageModel:
    """A model that is in memory; its revision is the hash of its weights."""
    if tokenizer is None:
        raise InputError("a `model` in memory needs its `tokenizer`")
    name = f"{getattr(model, 'name_or_path', '') or type(model).__name__} (in memory)"
    with quietly(), refusing(f"cannot use {name}"):
        hf = view_of(model, name)
        refuse_other_than_decoder(hf.config, name)
        refuse_ids_beyond(tokenizer, hf.config, name)
        refuse_broken_weights(hf, name)
        lm = LanguageModel.wrap(hf, tokenizer, name)
        refuse_unusable(lm)
    return lm


def _inspected(source: str, revision: str | None, trust_remote_code: bool) -> Checkpoint | None:
    """What a folder holds, or a snapshot in the hub's cache; None for what is still to come."""
    folder = Path(source) if Path(source).is_dir() else cached_folder(source, revision)
    if folder is None:
        return None
    checkpoint = read_checkpoint(folder)
    registered_for(checkpoint.config.get("model_type"))  # its import may tell transformers of it
    refuse_foreign(checkpoint, trust_remote_code)
    refuse_absurd_counts(checkpoint)
    return checkpoint


def _refuse_sizes(checkpoint: Checkpoint, config: Any, name: str, trust_remote_code: bool) -> None:
    if not checkpoint.shapes:
        raise InputError(f"{name} has no weights in safetensors: kvlens reads no other kind")
    if not trust_remote_code:  # a model of its own code cannot be built without running it
        refuse_absurd_sizes(config, checkpoint)


def _model(source: str, config: Any, name: str, options: dict[str, Any]) -> Any:
    """The model, with the weights of its folder and no others."""
    loaded: Any = auto_class_of(config).from_pretrained(
        source,
        config=config,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # they are refused by name
        output_loading_info=True,
        adapter_kwargs={"local_files_only": options["local_files_only"]},  # looked for with peft
        **options,
    )
    hf, loading_info = loaded
    refuse_other_weights(loading_info, name)
    refuse_broken_weights(hf, name)
    return hf
