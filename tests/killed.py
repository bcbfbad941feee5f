"""Kill a child of this process before its n-th change of the file system."""

import os
import signal
import sys

RENAMES = ("os.rename",)
CHANGES = (*RENAMES, "os.mkdir", "os.rmdir", "os.remove", "os.truncate")


def killed_before(n, work, events=CHANGES):
    """Whether a child that does `work` is killed, and not done before; the first is number 1."""
    child = os.fork()
    if child == 0:
        _work_and_die(n, work, events)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _work_and_die(n, work, events):
    left = n

    def look(event, args):
        nonlocal left
        if event in events:
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    code = 1
    try:
        # No thread of the parent is in the child: what waits for one would wait for ever.
        torch = sys.modules.get("torch")
        if torch is not None:
            torch.set_num_threads(1)
        sys.addaudithook(look)
        work()
        code = 0
    finally:
        os._exit(code)
