"""Turns: one thread at a time runs a model, and hooks are for the passes of their own turn alone.

Hooks sit on modules, and all threads have the same modules. So whoever runs a model, with hooks or
without, takes a turn on it: other threads wait until it is over, and see no hook of it. What a
thread nests is one turn. Wrappers of one transformers model share its turns.
"""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from kvlens.store.errors import InputError
from kvlens.store.sharing import PerObject

PATIENCE = 10.0  # seconds of waiting in silence

Purpose = Literal["pass", "measurement", "reroute"]
"""What a turn is taken for.

A ``pass`` runs the model as it is, re-routed or not; a ``measurement`` runs the plain model, or
re-routes it itself; ``reroute`` re-routes what runs inside."""


@dataclass
class _Turns:
    """The turns on one model.

    Attributes:
        lock: held by the thread whose turn it is.
        open: what that thread is doing, the outermost first.
    """

    lock: Any = field(default_factory=threading.RLock)
    open: list[Purpose] = field(default_factory=list)

    @property
    def rerouted(self) -> bool:
        """Whether what runs now is re-routed."""
        return "reroute" in self.open


_TURNS = PerObject(_Turns)


@contextlib.contextmanager
def turn_on(hf: Any, name: str, purpose: Purpose = "pass") -> Iterator[Turn]:
    """A turn on a model; waits for those of other threads.

    Args:
        hf: the transformers model.
        name: of the model, for messages.
        purpose: of the turn.

    Yields:
        The turn, which takes hooks; they are gone after it.

    Raises:
        InputError: for a measurement in a thread that has the model re-routed, for re-routing what
            is re-routed already, and for a model in train mode.
    """
    turns = _TURNS.of(hf)
    _wait(turns, name)
    try:
        _refuse_rerouted(turns, name, purpose)
        if not turns.open or turns.rerouted:
            _refuse_training(hf, name, "lm.hf")
        turns.open.append(purpose)
        try:
            with contextlib.ExitStack() as hooks:
                yield Turn(name, hooks)
        finally:
            turns.open.pop()
    finally:
        turns.lock.release()


def _wait(turns: _Turns, name: str) -> None:
    """Take the lock; who waits long is told whom for."""
    if turns.lock.acquire(timeout=PATIENCE):
        return
    if turns.rerouted:
        warnings.warn(
            f"another thread re-routes {name}: this one waits until it leaves its `with reroute`",
            stacklevel=5,  # who called what takes the turn
        )
    turns.lock.acquire()


def _refuse_rerouted(turns: _Turns, name: str, purpose: Purpose) -> None:
    """Refuse in this thread's `with reroute` what would not be told that it is re-routed."""
    if not turns.rerouted or purpose == "pass":
        return
    # A measurement that re-routes by itself knows what it does inside.
    if purpose == "reroute" or "measurement" not in turns.open:
        raise InputError(f"{name} is re-routed already: leave the `with reroute` block first")


def _refuse_training(tree: Any, name: str, path: str) -> None:
    """Refuse a module tree that has a module in train mode."""
    modules = [tree]
    while modules:  # several times as fast as `tree.modules()`, and this comes before every pass
        module = modules.pop()
        if module is None:
            continue
        if module.training:
            raise InputError(
                f"{name} is in train mode, where dropout changes every pass: call `{path}.eval()`"
            )
        modules.extend(module._modules.values())


class Turn:
    """A thread's turn on a model, and the hooks that it puts in place for it."""

    def __init__(self, name: str, hooks: contextlib.ExitStack):
        """A turn on the model called `name`; `hooks` takes them off."""
        self._name = name
        self._hooks = hooks

    def before(self, module: Any, call: Callable[..., Any], with_kwargs: bool = False) -> None:
        """Call before each forward of a module, see torch's `register_forward_pre_hook`."""
        hook = _Hook(self._name, call)
        handle = module.register_forward_pre_hook(hook, with_kwargs=with_kwargs)
        self._hooks.callback(handle.remove)

    def after(self, module: Any, call: Callable[..., Any]) -> None:
        """Call after each forward of a module, see torch's `register_forward_hook`."""
        handle = module.register_forward_hook(_Hook(self._name, call))
        self._hooks.callback(handle.remove)

    def tap(self, bridge: Any, taps: Iterable[tuple[str, Callable[..., Any]]]) -> None:
        """Call at hook points of a TransformerLens bridge, by their full names."""
        _refuse_training(bridge, self._name, "lm.bridge")
        hooks = [(point, _Hook(self._name, call)) for point, call in taps]
        self._hooks.enter_context(bridge.hooks(fwd_hooks=hooks))

    def finally_do(self, undo: Callable[[], Any]) -> None:
        """Call when the turn is over, however it ends."""
        self._hooks.callback(undo)

    def replace(self, module: Any, forward: Callable[..., Any]) -> None:
        """Run `forward` in place of a module's own."""
        before = vars(module).get("forward")
        module.forward = _Hook(self._name, forward)
        self._hooks.callback(_restore, module, before)


def _restore(module: Any, forward: Callable[..., Any] | None) -> None:
    del module.forward
    if forward is not None:
        module.forward = forward


class _Hook:
    """A call that only the passes of its own thread may make.

    A raw pass of another thread takes no turn, so it can meet the hook.
    """

    def __init__(self, name: str, call: Callable[..., Any]):
        self.name = name
        self.call = call
        self.thread = threading.get_ident()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != self.thread:
            raise InputError(
                f"another thread has hooks on {self.name} now: run it by `lm(...)` or inside "
                "`with lm.turn()`, which wait for their turn"
            )
        return self.call(*args, **kwargs)

    def __deepcopy__(self, memo: Any) -> Any:
        # `lm.bridge` copies the modules on first use; copied hooks would never be removed.
        raise InputError(
            "this model has hooks on it now: use `lm.bridge` once before the `reroute` context"
        )
