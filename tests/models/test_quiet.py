"""Quiet: threads that load at the same time leave the libraries as they were."""

import logging
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

from transformers.utils import logging as hf_logging

from kvlens.models.quiet import quietly


def state():
    return (
        hf_logging.get_verbosity(),
        hf_logging.is_progress_bar_enabled(),
        logging.root.manager.disable,
        list(warnings.filters),
        warnings.showwarning,
    )


def test_threads_are_quiet_one_after_another():
    before = state()
    start = threading.Barrier(4)
    inside = []

    def silent(number):
        start.wait()
        with quietly(), quietly():
            inside.append(number)
            time.sleep(0.01)
            inside.append(number)
        return not logging.getLogger("x").isEnabledFor(logging.INFO)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(silent, range(4)))
    assert inside[::2] == inside[1::2]
    assert state() == before
