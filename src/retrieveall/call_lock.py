"""The lock around a model's calls, safe in threads and in forked processes. Knows nothing of models.

A forked child has its parent's memory but only the forking thread. It would hang on the thread pools of torch and
FAISS, which are gone, and on a lock that another thread held, which is never released. So a child computes with one
thread, and is refused if another thread was in a call at the fork.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import cache
from types import TracebackType
from weakref import WeakSet

from retrieveall.errors import InputError

__all__ = ["CallLock"]

_THREAD_POOLS = {"torch": "set_num_threads", "faiss": "omp_set_num_threads"}
_IN_USE = "another thread was using a model at that moment"


class CallLock:
    """A reentrant lock: one call at a time. In a forked child, entering it works or raises; it never hangs.

    Args:
        unforkable: why forked children cannot use the model, such as "it runs on a GPU"; None if they can.

    Examples:
        >>> lock = CallLock()
        >>> with lock:
        ...     pass

    Raises:
        InputError: entered in a forked child that cannot use the model; names the remedy.
    """

    def __init__(self, unforkable: str | None = None) -> None:
        self._unforkable = unforkable
        self._refusal: str | None = None
        self._lock = threading.RLock()
        _locks.add(self)
        _register()

    def __enter__(self) -> None:
        if self._refusal is not None:
            raise InputError(
                f"the model cannot be used in this forked process, since {self._refusal}; "
                "start workers with multiprocessing.get_context('spawn')"
            )
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def _is_free(self) -> bool:
        """Whether no other thread holds it."""
        free = self._lock.acquire(blocking=False)
        if free:
            self._lock.release()
        return free


_locks: WeakSet[CallLock] = WeakSet()


@cache
def _register() -> None:
    if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    """In the child, where this is the only thread."""
    locks = list(_locks)
    in_use = None if all(lock._is_free() for lock in locks) else _IN_USE  # models share what torch keeps
    for lock in locks:
        lock._refusal = lock._refusal or lock._unforkable or in_use
    for name, set_threads in _THREAD_POOLS.items():
        if hasattr(module := sys.modules.get(name), set_threads):
            getattr(module, set_threads)(1)  # as torch's own DataLoader does in its workers
