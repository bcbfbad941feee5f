"""Spans: tokens of a prompted text besides its final one, by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvlens.store.arguments import shown
from kvlens.store.errors import InputError
from kvlens.texts.tokens import TokenizedText

LAST = "last"
ADVICE = "give last, first, text, a place such as 5 or -2, or a span such as 3-7"
PLACES = re.compile(r"(?P<only>-?[0-9]{1,6})|(?P<first>[0-9]{1,6})-(?P<last>[0-9]{1,6})")


def further_tokens(names: Sequence[str]) -> tuple[str, ...]:
    """The spans that are kept besides the final token, which always is.

    Args:
        names: ``last``; ``first``; ``text``, all tokens of the text without its prompt; a 0-based
            place in the prompted text, from its end where it is negative; or two with a dash, both
            among them.

    Returns:
        All but ``last``, each once.

    Raises:
        InputError: for anything else.
    """
    if not names:
        raise InputError(f"no `tokens` are named: {ADVICE}")
    for name in names:
        places = PLACES.fullmatch(name)
        upside_down = places and places["first"] and int(places["first"]) > int(places["last"])
        if name not in (LAST, "first", "text") and (not places or upside_down):
            raise InputError(f"`tokens` has {shown(name)}: {ADVICE}")
    return tuple(dict.fromkeys(name for name in names if name != LAST))


def places_of(name: str, text: TokenizedText) -> range:
    """Where the tokens of a span stand in a text; none where it is too short.

    Args:
        name: one of `further_tokens`.
        text: as ids, prompt included.

    Returns:
        Places, padding left out.
    """
    n = len(text.ids)
    if name == "text":
        return range(*text.span)
    if name == "first":
        return range(1)
    places = PLACES.fullmatch(name)
    if places is None:
        raise InputError(f"`tokens` has {shown(name)}: {ADVICE}")
    if places["only"] is None:
        return range(min(int(places["first"]), n), min(int(places["last"]) + 1, n))
    place = int(places["only"])
    place += n if name.startswith("-") else 0
    return range(place, place + 1) if 0 <= place < n else range(0)
