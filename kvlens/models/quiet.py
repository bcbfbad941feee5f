"""Quiet: the libraries' bars and notices set aside while they load, one thread at a time."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

# What is set here is the process's; so is what transformers sets while it builds a model: torch's
# default dtype, its functions that initialise weights, the tying of weights.
_LOADING = threading.RLock()


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence the libraries' bars and notices; restored afterwards. Other threads wait."""
    with _LOADING, _silenced():
        yield


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    from transformers.utils import logging as hf_logging

    verbosity = hf_logging.get_verbosity()
    has_bars = hf_logging.is_progress_bar_enabled()
    disabled = logging.root.manager.disable
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logging.disable(logging.ERROR)  # what goes wrong is raised, too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        hf_logging.set_verbosity(verbosity)
        if has_bars:
            hf_logging.enable_progress_bar()
