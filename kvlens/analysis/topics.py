"""Topics: sentences whose likeness everybody can judge, as data."""

from __future__ import annotations

# Four topics of three sentences each, which share few words within a topic and some across topics.
TOPICS = {
    "weather": (
        "It has been raining since early morning.",
        "Dark clouds are gathering over the hills.",
        "The forecast promises a storm tonight.",
    ),
    "cooking": (
        "She stirred the soup and added some salt.",
        "The bread has been in the oven since noon.",
        "Chop the onions before you heat the pan.",
    ),
    "football": (
        "The striker scored twice in the second half.",
        "Their goalkeeper saved a late penalty.",
        "The team lost the final by a single goal.",
    ),
    "computing": (
        "The program crashed and lost all my data.",
        "We fixed a bug in the new compiler.",
        "The server ran out of memory last night.",
    ),
}

SENTENCES = tuple(sentence for sentences in TOPICS.values() for sentence in sentences)
GROUPS = tuple(i for i, sentences in enumerate(TOPICS.values()) for _ in sentences)
"""The topic of each sentence."""
