"""Knows how a few jobs are done at the same time on plain threads, and how long somebody waits for them.
Must not know what the jobs are. Light: every guardian loads it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

Job = Callable[[], None]


class Crew:
    """Daemon threads that end when nothing is left to do.

    Args:
        most: threads at the same time; with 1 every job is done by whoever brings it.
        name: of the threads.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._news = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._threads = 0

    def run(self, jobs: Sequence[Job], within: float | None = None) -> bool:
        """Does the jobs, and waits until all are done, those of earlier calls included.

        Args:
            jobs: none of them may raise.
            within: seconds after which nobody waits any longer; they go on.

        Returns:
            Whether all are done.
        """
        if self._most == 1:
            for job in jobs:
                job()
            return True
        with self._news:
            self._waiting.extend(jobs)
            for _ in range(min(len(jobs), self._most - self._threads)):
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
                self._threads += 1
            return self._news.wait_for(lambda: not self._threads, within)

    def _work(self) -> None:
        while True:
            with self._news:
                if not self._waiting:
                    self._threads -= 1
                    self._news.notify_all()
                    return
                job = self._waiting.popleft()
            job()
