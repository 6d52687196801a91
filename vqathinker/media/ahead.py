"""Reading files before they are needed, in worker threads, a bounded number at a time."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from torch import get_num_threads, set_num_threads

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Reads announced files in their order while the caller does something else.

    Each thread computes with itself alone, since a second pool of OpenMP threads would slow the first.
    PyTorch keeps that number for threads that start later; the one that builds the reader keeps its own.

    Args:
        read: reads one file; called in worker threads.
        num_workers: files read at the same time.
        max_ahead: most files that are read and not yet taken.
    """

    def __init__(self, read: Callable[[str], T], num_workers: int, max_ahead: int) -> None:
        self.read = read
        self.max_ahead = max_ahead
        get_num_threads()  # settles the number of this thread
        self.pool = ThreadPoolExecutor(num_workers, "video", initializer=set_num_threads, initargs=(1,))
        self.waiting: deque[str] = deque()
        self.started: OrderedDict[str, Future[T]] = OrderedDict()

    def announce(self, paths: Iterable[str]) -> None:
        """Say which files will be taken next, after those announced before."""
        known = {*self.waiting, *self.started}
        self.waiting.extend(path for path in dict.fromkeys(paths) if path not in known)
        self._start()

    def take(self, paths: Sequence[str]) -> list[T]:
        """What `read` returned for each of N different files, in order; waits for those not yet read.

        Announced files that should have come before them are forgotten.

        Raises:
            Exception: whatever `read` raised.
        """
        wanted = set(paths)
        while self.started and next(iter(self.started)) not in wanted:
            self.started.popitem(last=False)[1].cancel()
        while self.waiting and not self.started and self.waiting[0] not in wanted:
            self.waiting.popleft()
        futures = [
            self.started.pop(path) if path in self.started else self.pool.submit(self.read, path)
            for path in paths
        ]
        self.waiting = deque(path for path in self.waiting if path not in wanted)
        self._start()
        return [future.result() for future in futures]

    def forget(self) -> None:
        """Forget what was announced; files that are being read are read to their end."""
        self.waiting.clear()
        for future in self.started.values():
            future.cancel()
        self.started.clear()

    def _start(self) -> None:
        while self.waiting and len(self.started) < self.max_ahead:
            path = self.waiting.popleft()
            self.started[path] = self.pool.submit(self.read, path)
