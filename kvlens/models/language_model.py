"""Models: a hub id, a local directory, a GGUF file or a named small model -> one `LanguageModel`.

One set of weights serves two module trees: the raw transformers model (fused attention; encoding) and, built on
first use, a TransformerLens `TransformerBridge` (hooks; analysis), which rewrites the tree it is given.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from kvlens.models.info import ModelInfo
from kvlens.models.quiet import _quiet
from kvlens.store.errors import InputError
from kvlens.texts.tokens import position_ids


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
    def wrap(
        cls, hf: Any, tokenizer: Any, name: str = "custom", revision: str = ""
    ) -> LanguageModel:
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
                raise InputError(
                    f"TransformerLens has no adapter for {architecture}: {error}"
                ) from error
        # What rewrites parameters while binding (split QKV) must not ask for gradients.
        return bridge.requires_grad_(False)

    @cached_property
    def live_hooks(self) -> frozenset[str]:
        """The bridge's hook names of states, keys, values and patterns that really fire, found by a two-token pass:
        some exist without ever being called, and a wrong name is silently ignored."""
        points = [
            "hook_k",
            "hook_v",
            "hook_k_normed",
            "hook_rot_k",
            "hook_cos",
            "hook_sin",
            "hook_pattern",
        ]
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
        raw = next(
            getattr(block, name)
            for name in ("self_attn", "attn", "attention")
            if hasattr(block, name)
        )
        return [raw, *([self.bridge.blocks[layer].attn] if "bridge" in self.__dict__ else [])]

    @property
    def device(self) -> torch.device:
        return self.hf.device

    def __call__(self, input_ids: Any, attention_mask: Any = None, **kwargs: Any) -> torch.Tensor:
        """Logits ``[batch, seq_len, vocab]`` for ids and mask ``[batch, seq_len]`` (either padding side)."""
        if attention_mask is not None and "position_ids" not in kwargs:
            kwargs["position_ids"] = position_ids(attention_mask)
        with torch.no_grad():
            return self.hf(
                input_ids, attention_mask=attention_mask, use_cache=False, **kwargs
            ).logits


def refuse_other_than_decoder(config: Any, name: str) -> None:
    """Raise InputError unless `config` describes a decoder-only language model."""
    from transformers.models.auto import modeling_auto as auto

    kind = config.model_type
    found = f"{name} is a {(config.architectures or [kind])[0]}"
    if config.is_encoder_decoder:
        raise InputError(
            f"{found}, an encoder-decoder model; kvlens reads decoder-only language models"
        )
    encoder = kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        config, "is_decoder", False
    )
    if encoder:
        raise InputError(
            f"{found}, an encoder-only model; kvlens reads decoder-only language models"
        )
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if kind not in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not remote:
        raise InputError(
            f"{found}, which is no causal language model; kvlens reads decoder-only ones"
        )


def _tokenizer_id(tokenizer: Any) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = (
        backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    )
    return f"{type(tokenizer).__name__}:{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _weights_hash(hf: Any) -> str:
    digest = hashlib.sha256()
    for name, tensor in hf.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
