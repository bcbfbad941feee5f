"""Refusing: what the libraries raise on a damaged model becomes one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from kvlens.store.errors import LONGEST_REASON, InputError, shortened


@contextlib.contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn any error inside into an `InputError`; the readers' errors share no base.

    Args:
        what: cannot be done, such as "cannot load NAME".

    Raises:
        InputError: `what`, and the reason.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise _refusal(what, error) from error
    except BaseException as error:
        # A panic of the tokenizers library derives from no Exception; an interrupt passes.
        if type(error).__name__ != "PanicException":
            raise
        raise _refusal(what, error) from error


def _refusal(what: str, error: BaseException) -> InputError:
    words = " ".join(str(error).split()) or type(error).__name__
    return InputError(shortened(f"{what}: {shortened(words, LONGEST_REASON)}"))
