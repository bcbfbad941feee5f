"""PromptEOL: ask for the text in one word, take the token that would say it."""

from dataclasses import dataclass

from kvlens.methods.base import Method
from kvlens.texts.prompts import PROMPTS, Prompt


@dataclass(frozen=True)
class PromptEOL(Method):
    """Jiang et al. 2023: one prompt for everything, the last token."""

    name = "prompt_eol"
    paper = "arXiv:2307.16645"
    query: Prompt = PROMPTS["prompt-eol"]
    document: Prompt = PROMPTS["prompt-eol"]
