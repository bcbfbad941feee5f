"""KE: PromptEOL's question after a hint at what a sentence's essence is."""

from dataclasses import dataclass

from kvlens.layers.readout import Readout
from kvlens.methods.base import Method
from kvlens.texts.prompts import PROMPTS, Prompt


@dataclass(frozen=True)
class KE(Method):
    """Zhang et al. 2024, knowledge enhancement: the last token after all blocks but one."""

    name = "ke"
    paper = "arXiv:2404.03921"
    query: Prompt = PROMPTS["ke"]
    document: Prompt = PROMPTS["ke"]
    readout: Readout | None = -2
    final_norm: bool | None = False
