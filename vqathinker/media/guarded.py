"""Decoding in processes of its own: a file that crashes or hangs a decoder costs that file only.

Each process reads one file after the other; one that dies or exceeds the time limit is replaced. They import
what a job needs and nothing of the caller's script, which therefore needs no `if __name__ == "__main__"` (the
pools of multiprocessing, and those built on it, do). Knows no model: what happens to the frames is the job's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from math import ceil
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from vqathinker.media.container import VideoError

GRACE = 2  # seconds after which a process ends itself
DAY = 86400.0
START_LIMIT = 300.0  # seconds to start a process and import what a job needs, from a slow disk
COMMAND = "from vqathinker.media.guarded import work; work()"
T = TypeVar("T")


def work() -> None:
    """The loop of a decoding process: jobs with their paths in, results or `VideoError`s out."""
    connection = Connection(int(sys.argv[1]))
    silence: int | None = None
    while True:
        try:
            job, path, time_limit = connection.recv()
        except EOFError:
            return
        signal.alarm(ceil(min(time_limit, DAY)) + GRACE)  # ends a hanging decoder that nobody waits for
        connection.send(True)  # what the job needs is imported, its time runs
        if silence is None:  # decoders print what they think of a file
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
        try:
            connection.send((True, _attempt(job, path)))
        except Exception as error:  # whatever a job raises reaches the caller, then ends this process
            reason = f"cannot be decoded ({type(error).__name__}: {error})"
            connection.send((False, VideoError(path, reason)))
            raise


def _attempt(job: Callable[[str], object], path: str) -> object:
    """The job's result, or the `VideoError` that it raised, within its time."""
    try:
        return job(path)
    except VideoError as error:
        return error
    finally:
        signal.alarm(0)


class Worker:
    """One decoding process."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", COMMAND, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                process_group=0,  # Ctrl-C is the parent's
            )

    def begin(self, job: Callable[[str], object], path: str, time_limit: float) -> bool:
        """Hand over a job; whether the process has taken it up."""
        try:
            self.connection.send((job, path, time_limit))
            return bool(self.connection.poll(START_LIMIT) and self.connection.recv())
        except (EOFError, OSError):
            return False

    def finish(self, path: str, time_limit: float) -> Any:  # noqa: ANN401  whatever the job gives
        """The job's result or a `VideoError`; a process that is no longer usable is stopped."""
        try:
            if not self.connection.poll(min(time_limit, DAY)):
                self.stop()
                return VideoError(path, f"reading it took longer than {time_limit:g} s")
            usable, answer = self.connection.recv()
        except (EOFError, OSError):
            usable = False
            answer = VideoError(path, f"the decoder crashed{self._cause()}")
        if not usable:
            self.stop()
        return answer

    @property
    def is_alive(self) -> bool:
        """Whether it can take another file."""
        return not self.connection.closed and self.process.poll() is None

    def kill(self) -> None:
        """End the process; whoever waits for it notices."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End the process and its connection."""
        self.kill()
        self.connection.close()

    def _cause(self) -> str:
        """The signal that ended the process, as far as it can be told."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return ""
        return f" ({signal.Signals(-code).name})" if code < 0 else ""


class Caller:
    """The processes that read for one caller, who may leave before they are done."""

    def __init__(self) -> None:
        self.has_left = False
        self._workers: set[Worker] = set()
        self._lock = threading.Lock()

    def add(self, worker: Worker) -> None:
        """Take note of a process; one that comes too late is ended."""
        with self._lock:
            self._workers.add(worker)
            if self.has_left:
                worker.kill()

    def discard(self, worker: Worker) -> None:
        """Forget a process that is done."""
        with self._lock:
            self._workers.discard(worker)

    def leave(self) -> None:
        """End the processes that still read for this caller."""
        with self._lock:
            self.has_left = True
            _kill_all(self._workers)


class GuardedReader:
    """Reads files in worker processes, which start when they are needed and stay; a fork starts its own.

    Args:
        num_workers: most processes at a time.
        time_limit: seconds for one job.

    Raises:
        ValueError: if a number is not positive.
    """

    def __init__(self, *, num_workers: int = 4, time_limit: float = 60.0) -> None:
        if num_workers < 1 or not time_limit > 0:
            raise ValueError(f"num_workers={num_workers} and time_limit={time_limit} must be positive")
        self.num_workers = num_workers
        self.time_limit = time_limit
        self._begin_anew()

    def __reduce__(self) -> tuple[partial[GuardedReader], tuple[()]]:
        """A copy for another process has processes of its own."""
        return partial(GuardedReader, num_workers=self.num_workers, time_limit=self.time_limit), ()

    def _begin_anew(self) -> None:
        self._process = os.getpid()
        self._idle: SimpleQueue[Worker] = SimpleQueue()
        self._workers: set[Worker] = set()
        self._callers: set[Caller] = set()
        self._lock = threading.Lock()
        weakref.finalize(self, _kill_all, self._workers)

    def read(self, job: Callable[[str], T], path: str) -> T | VideoError:
        """What a job makes of a file; safe in threads.

        Args:
            job: picklable and importable; may raise `VideoError`, and so does any other exception here.
            path: the file.

        Raises:
            RuntimeError: if no process can be started, or `close` was called meanwhile.
        """
        with self._caller() as caller:
            return self._read(job, path, caller)

    def map(
        self, job: Callable[[str], T], paths: Iterable[str], *, ahead: int | None = None
    ) -> Iterator[T | VideoError]:
        """Read files in order, at most `ahead` of the one taken (twice the processes if omitted)."""
        return self.run(((job, path) for path in paths), ahead=ahead)

    def run(
        self, tasks: Iterable[tuple[Callable[[str], T], str]], *, ahead: int | None = None
    ) -> Iterator[T | VideoError]:
        """As `map`, with a job for each path."""
        ahead = ahead or 2 * self.num_workers
        waiting: deque[Future[T | VideoError]] = deque()
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="guarded")
        with self._caller() as caller:
            try:
                for job, path in tasks:
                    waiting.append(pool.submit(self._read, job, path, caller))
                    if len(waiting) > ahead:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                caller.leave()  # nobody waits for what is being read
                pool.shutdown()

    def close(self) -> None:
        """End all processes and what they read; the next file starts new ones."""
        with self._lock:
            for caller in self._callers:
                caller.leave()
            _kill_all(self._workers)

    @contextmanager
    def _caller(self) -> Iterator[Caller]:
        if self._process != os.getpid():  # a fork, such as a loader's; the connections are the parent's
            self._begin_anew()
        caller = Caller()
        with self._lock:
            self._callers.add(caller)
        try:
            yield caller
        finally:
            with self._lock:
                self._callers.discard(caller)

    def _read(self, job: Callable[[str], T], path: str, caller: Caller) -> T | VideoError:
        worker = self._begin(job, path, caller)
        answer: T | VideoError = worker.finish(path, self.time_limit)
        caller.discard(worker)
        if worker.is_alive:
            self._idle.put(worker)
        else:
            self._workers.discard(worker)
        return answer

    def _begin(self, job: Callable[[str], object], path: str, caller: Caller) -> Worker:
        """A process that has taken up the job, an idle one or a new one."""
        is_new = False
        while not (is_new or caller.has_left):
            try:
                worker = self._idle.get_nowait()
            except Empty:
                worker = Worker()
                is_new = True
                self._workers.add(worker)
            caller.add(worker)
            if worker.is_alive and worker.begin(job, path, self.time_limit):
                return worker
            caller.discard(worker)
            worker.stop()
            self._workers.discard(worker)
        raise RuntimeError(f"{path}: no decoding process started, or it was ended before it read")


def _kill_all(workers: set[Worker]) -> None:
    for worker in list(workers):
        worker.kill()
