"""Kind: which transformers models kvlens reads, told from the config, and which class loads them.

It knows no weights and no modules.
"""

from __future__ import annotations

from typing import Any

from kvlens.store.errors import InputError


def refuse_other_than_decoder(config: Any, name: str) -> None:
    """Refuse what is no decoder-only language model with keys and values.

    Args:
        config: of transformers.
        name: of the model, for the message.

    Raises:
        InputError: for an encoder-decoder model, an encoder, what has no language model head, and
            what has no attention.
    """
    from transformers.models.auto import modeling_auto as auto

    kind = config.model_type
    what = f"{name} is a {(config.architectures or [kind])[0]}"
    if config.is_encoder_decoder:
        raise InputError(
            f"{what}, an encoder-decoder model; kvlens reads decoder-only language models"
        )
    is_decoder = getattr(config, "is_decoder", False)
    if kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and not is_decoder:
        raise InputError(
            f"{what}, an encoder-only model; kvlens reads decoder-only language models"
        )
    if not _has_head(config):
        raise InputError(
            f"{what}, which is no causal language model; kvlens reads decoder-only ones"
        )
    if not getattr(first_layer_config(config), "num_attention_heads", None):
        raise InputError(
            f"{what}, a model without attention; kvlens reads the keys and values of attention"
        )


def _has_head(config: Any) -> bool:
    """Whether transformers, or the model's own code, has a language model of this kind."""
    from transformers.models.auto import modeling_auto as auto

    brings_its_code = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    known = (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )
    is_registered = type(config) in auto.MODEL_FOR_CAUSAL_LM_MAPPING
    return brings_its_code or is_registered or any(config.model_type in names for names in known)


def first_layer_config(config: Any) -> Any:
    """The config of a text decoder's first block: in some (Gemma 4) they differ.

    Args:
        config: of transformers.

    Returns:
        A config without entries that vary from block to block.
    """
    text = config.get_text_config()
    return text.per_layer_config[0] if getattr(text, "is_heterogeneous", False) else text


def auto_class_of(config: Any) -> Any:
    """The auto class of transformers that builds a model as its checkpoint was saved.

    Some multimodal kinds (Qwen3.5, Llama 4) have a class of the text decoder alone, too: what was
    saved with its towers is loaded with them, so that no weight is left over.

    Args:
        config: of transformers, of a kind that is not refused.

    Returns:
        `AutoModelForCausalLM` or `AutoModelForImageTextToText`.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto import modeling_auto as auto

    kind = config.model_type
    with_towers = auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(kind)
    is_saved_with_them = with_towers in (config.architectures or ())
    has_text_class = kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if with_towers and (is_saved_with_them or not has_text_class):
        return AutoModelForImageTextToText
    return AutoModelForCausalLM
