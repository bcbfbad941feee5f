"""CoT: PromptEOL's question after a pretended chain of thought."""

from dataclasses import dataclass

from kvlens.methods.base import Method
from kvlens.texts.prompts import PROMPTS, Prompt


@dataclass(frozen=True)
class CoT(Method):
    """Zhang et al. 2024, pretended chain of thought: one prompt for everything, the last token."""

    name = "cot"
    paper = "arXiv:2404.03921"
    query: Prompt = PROMPTS["cot"]
    document: Prompt = PROMPTS["cot"]
