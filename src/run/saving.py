"""What is written beside the training: work for one thread, done in order."""

import queue
import threading
from collections.abc import Callable

Work = Callable[[], None]


class Saving:
    """A thread that does its work in the order in which it was given.

    It is started by the first piece of work: a process that is forked before has no thread to lose.
    """

    def __init__(self) -> None:
        self._queue: queue.Queue[Work] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def in_flight(self) -> bool:
        """Whether work is being done, or waits."""
        return self._queue.unfinished_tasks > 0

    def add(self, work: Work) -> None:
        """Do this after all that was added before, and return at once."""
        self._queue.put(work)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="saving", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Return when everything is done. Raises what the work has raised, once."""
        self.settle()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def settle(self) -> None:
        """Return when everything is done, whatever came of it."""
        self._queue.join()

    def _run(self) -> None:
        while True:
            work = self._queue.get()
            try:
                work()
            except BaseException as error:
                self._error = self._error or error
            finally:
                del work  # it holds a copy of the state
                self._queue.task_done()
