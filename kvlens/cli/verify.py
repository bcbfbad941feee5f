"""`kvlens verify`: do saved results still agree with what they were made with?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kvlens.cli.answers import Answer
from kvlens.cli.swap import recover


def verify(
    path: Annotated[Path, Parameter(name="PATH")],
    /,
    *,
    strict: bool = False,
) -> Answer:
    """Do the model, texts, parts and versions of a result still agree with what is here?

    Loads no weights, fetches nothing. Exit code 0: nothing differs, 1: something does.

    Args:
        path: a file that kvlens wrote, a run folder, or a folder of them
        strict: other versions of packages count as a difference, too
    """
    from kvlens.reporting import agreement

    recover(path)
    verification = agreement.verify(path)
    code = 1 if verification.differing(strict) else 0
    return Answer(verification.data, str(verification), code)
