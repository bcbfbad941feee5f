"""Quick: a share of a campaign in a process of its own, as `run.py` runs it."""

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).with_name("run.py")


def run_share(campaign: str, share: float, commands: str = "") -> str:
    """Run a share of one campaign; its table, or an assertion with the cases that failed."""
    line = [sys.executable, str(RUN), "--only", campaign, "--share", str(share), "--seed", "13"]
    if commands:
        line += ["--case", commands]
    done = subprocess.run(line, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return done.stdout
