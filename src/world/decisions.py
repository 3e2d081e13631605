"""How one rank's decision, or its error, reaches the others."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from src.errors import JobFailed, UserError
from src.world.rendezvous import Store

HEARTBEAT_SECONDS = 1.0


@dataclass(frozen=True)
class Answer:
    """What a deciding rank tells the others."""

    result: object = None
    error: UserError | JobFailed | None = None


def answer_of(decide: Callable[[], object]) -> Answer:
    """The decision's result, or the error that it raised."""
    try:
        return Answer(result=decide())
    except (UserError, JobFailed) as error:
        return Answer(error=error)


def results_of(answers: list[Answer | None]) -> list[object]:
    """What was decided; raises the first error. None stands for a rank that does not decide."""
    given = [answer for answer in answers if answer is not None]
    for answer in given:
        if answer.error is not None:
            raise answer.error
    return [answer.result for answer in given]


@contextmanager
def heartbeat(store: Store, key: str) -> Iterator[None]:
    """Tell the others every second that this rank lives, until the block ends."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            store.add(f"{key}/alive", 1)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
