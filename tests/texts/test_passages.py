"""Passages cut from paragraphs."""

import re
from itertools import pairwise

from kvlens.texts.passages import cut


def test_passages_never_cross_a_gap_or_a_paragraph():
    words: list[str | None] = [
        f"W{i} " + " ".join(f"w{i}" for _ in range(8)) + f" e{i}." for i in range(60)
    ]
    blocks: list[list[str | None]] = [[*words[:15], None, *words[15:40]], words[40:]]
    targets = [200.0, 10.0, 50.0, 23.0, 100.0, 10.0]
    cuts = cut(blocks, targets)
    assert sorted(cuts) == list(range(6))
    numbers = {r: [int(w[1:]) for w in re.findall(r"W\d+", text)] for r, text in cuts.items()}
    for r, chosen in numbers.items():
        assert all(b == a + 1 for a, b in pairwise(chosen))
        assert len({(i >= 15) + (i >= 40) for i in chosen}) == 1
        assert 10 * len(chosen) == len(cuts[r].split())
    assert [len(numbers[r]) for r in range(6)] == [20, 1, 5, 2, 10, 1]
    used = [i for chosen in numbers.values() for i in chosen]
    assert len(used) == len(set(used))
