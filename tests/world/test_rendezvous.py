"""The rendezvous: the ranks of one attempt find each other, and no dead attempt."""

import os
import socket
from pathlib import Path

import pytest

from src import console, schema
from src.config import UserError
from src.world import rendezvous
from src.world import world as distributed
from tests.helpers.ranks import fork


def test_a_port_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for name, value in {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(UserError, match=rf"MASTER_PORT={port}: the port on 127.0.0.1 is in use: choose another"):
            with distributed.join(schema.Train(timeout_seconds=5)):
                pass


def test_a_dead_torchrun_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "AGENT_SECONDS", 0.5)

    def work() -> None:
        os.environ["MASTER_PORT"] = "9"  # the discard port: refuses at once
        with console.one_line_errors(), distributed.join(schema.Train()):
            pass

    job = fork(2, work, tmp_path)
    assert job.codes == [1, 1]
    assert job.output.count("error: torchrun's store at 127.0.0.1:9 does not answer: torchrun is gone\n") == 2


def test_the_address_of_a_dead_attempt_is_ignored(tmp_path: Path) -> None:
    """What breaks torchrun --max-restarts: the agent's store still names the rank 0 of the last attempt."""

    def work() -> int:
        from datetime import timedelta

        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        agent = TCPStore("127.0.0.1", int(os.environ["MASTER_PORT"]), is_master=False, wait_for_workers=False)
        dead = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=30))
        if os.environ["RANK"] == "1":
            agent.set("meeting//hello/1", "0123")
            agent.set("meeting//invitation", f"127.0.0.1 {dead.port} - 0123")
            agent.set("stale", "yes")
        agent.get("stale")
        with distributed.join(schema.Train()) as world:
            return sum(world.all_gather(1))

    job = fork(2, work, tmp_path)
    assert job.codes == [0, 0], job.output
    assert job.values == [2, 2]
