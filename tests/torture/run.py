"""Run: all campaigns, one after another or side by side; prints what was tried, and how often.

``make torture SEED=7`` is this. A case that failed is run again alone by what the failure prints:
``python tests/torture/run.py --seed 7 --only kills --case profile:kill-after-63``.
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

TESTS = Path(__file__).parents[1]
ONE_THREAD = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
PROCESSES = 2


@dataclass(frozen=True)
class Campaign:
    """One module of this folder with a function ``campaign(seed, n, folder)``.

    Attributes:
        name: of the module.
        n: how many cases make it whole.
        forks: whether it works in two processes itself.
    """

    name: str
    n: int
    forks: bool = False

    def run(self, seed: int, share: float, case: str) -> tuple[Counter[str], float]:
        """Run it in a folder of its own; the counts, and the seconds that it took."""
        module = importlib.import_module(f"torture.{self.name}")
        only = {"only": case} if case else {}
        begin = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            counts = module.campaign(seed, max(1, round(share * self.n)), Path(folder), **only)
        return counts, time.monotonic() - begin


CAMPAIGNS = (
    Campaign("kills", 1_000, forks=True),
    Campaign("disk", 1_000, forks=True),
    Campaign("own_files", 60_000),
    Campaign("vector_files", 20_000),
    Campaign("damage_foreign", 25_000),
    Campaign("damage_models", 3_000),
    Campaign("threads", 700),
    Campaign("hostile", 500),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line names; 1 where a law does not hold."""
    arguments = _arguments(argv)
    os.environ.update(ONE_THREAD)
    sys.path[:0] = [str(TESTS), str(TESTS.parent)]
    begin = time.monotonic()
    failed = False
    for campaign, ended in _run(arguments):
        error = ended.exception()
        failed |= error is not None
        print(_failure(campaign, error) if error else _table(campaign, *ended.result()), flush=True)
    seconds = time.monotonic() - begin
    print(f"seed {arguments.seed}: {'FAILED' if failed else 'all held'}, {seconds:.0f} s")
    return int(failed)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the campaigns of tests/torture.")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    parser.add_argument("--share", type=float, default=1.0, help="of the number of cases")
    names = [campaign.name for campaign in CAMPAIGNS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="campaigns")
    parser.add_argument("--case", default="", help="one case of kills or disk, or one command")
    return parser.parse_args(argv)


def _run(arguments: argparse.Namespace) -> Iterator[tuple[Campaign, Future]]:
    """Those that fork one after another, then the others side by side; each in a new process."""
    chosen = [campaign for campaign in CAMPAIGNS if campaign.name in arguments.only]
    for forks in (True, False):
        campaigns = [campaign for campaign in chosen if campaign.forks == forks]
        with ProcessPoolExecutor(
            1 if forks else PROCESSES, get_context("spawn"), max_tasks_per_child=1
        ) as pool:
            running = {
                pool.submit(campaign.run, arguments.seed, arguments.share, arguments.case): campaign
                for campaign in campaigns
            }
            for ended in as_completed(running):
                yield running[ended], ended


def _table(campaign: Campaign, counts: Counter[str], seconds: float) -> str:
    lines = [f"{campaign.name}: {seconds:.0f} s"]
    lines += [f"  {count:7} {what}" for what, count in sorted(counts.items())]
    return "\n".join(lines)


def _failure(campaign: Campaign, error: BaseException) -> str:
    return f"{campaign.name}: {type(error).__name__}: {error}"


if __name__ == "__main__":
    sys.exit(main())
