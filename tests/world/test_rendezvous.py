"""The rendezvous: the ranks of one attempt find each other, and no dead attempt."""

import os
import socket
import time
from datetime import timedelta
from pathlib import Path

import pytest

from src import console, environment, schema
from src.doctor.rehearsal import free_port
from src.errors import UserError
from src.world import rendezvous
from src.world import world as distributed
from src.world.world import World
from tests.helpers.by_hand import by_hand
from tests.helpers.launched import given
from tests.helpers.ranks import fork
from tests.helpers.stores import greet, in_memory


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
            agent.append("meeting//hello", "1 0123\n")  # type: ignore[attr-defined]
            agent.set("meeting//invitation/0123", f"127.0.0.1 {dead.port}")
            agent.set("stale", "yes")
        agent.get("stale")
        with distributed.join(schema.Train()) as world:
            return sum(world.all_gather(1))

    job = fork(2, work, tmp_path)
    assert job.codes == [0, 0], job.output
    assert job.values == [2, 2]


SLURM = {"SLURM_JOB_ID": "5", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": socket.gethostname()}


def size(world: World) -> int:
    return sum(world.all_gather(1))


def test_ranks_meet_where_their_variables_say(tmp_path: Path) -> None:
    assert by_hand(3, size, tmp_path).values == [3] * 3
    assert by_hand(2, size, tmp_path, MASTER_ADDR="[::1]").values == [2] * 2


@pytest.mark.parametrize(
    ("launcher", "variables"),
    [
        ("srun", {"SLURM_PROCID": "{rank}", "SLURM_STEP_NUM_TASKS": "3", "SLURM_LOCALID": "{rank}", **SLURM}),
        ("mpirun", {"OMPI_COMM_WORLD_RANK": "{rank}", "OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_LOCAL_SIZE": "3"}),
        ("hydra", {"PMI_RANK": "{rank}", "PMI_SIZE": "3", "MPI_LOCALNRANKS": "3"}),
    ],
)
def test_tasks_of_another_launcher_find_each_other(launcher: str, variables: dict[str, str], tmp_path: Path) -> None:
    unique = {"PMIX_NAMESPACE": str(tmp_path), "SLURM_RESTART_COUNT": str(free_port())}

    def own(rank: int) -> dict[str, str]:
        return {name: value.format(rank=rank) for name, value in variables.items()} | unique

    job = by_hand(3, size, tmp_path, own=own)
    assert job.values == [3] * 3, job.output


def test_srun_s_tasks_ignore_a_master_that_is_not_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MASTER_ADDR of an earlier job: rank 0 can know that it is not its own."""
    given(monkeypatch, "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=here MASTER_ADDR=192.0.2.1")
    assert rendezvous.meeting_address(environment.ranks()) == "127.0.0.1"
    given(monkeypatch, "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=n[1-2] MASTER_ADDR=192.0.2.1")
    with pytest.raises(UserError, match=r"MASTER_ADDR=192.0.2.1: not an address of .*; unset MASTER_ADDR"):
        rendezvous.meeting_address(environment.ranks())
    given(monkeypatch, "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=n[1-2] MASTER_ADDR=127.0.0.1")
    assert rendezvous.meeting_address(environment.ranks()) == "n1"
    given(monkeypatch, "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=n1 MASTER_PORT=abc")
    with pytest.raises(UserError, match="MASTER_PORT=abc: not a port; unset MASTER_PORT"):
        rendezvous.meeting_address(environment.ranks())


def test_a_rank_that_does_not_come_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "QUIET_SECONDS", 1.5)

    def own(rank: int) -> dict[str, str]:
        variables = {"RANK": str(2 * rank), "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return variables

    port = str(free_port())
    job = by_hand(2, size, tmp_path, schema.Train(timeout_seconds=3), own)
    assert job.codes == [1, 1], job.output
    assert f"waiting for ranks 1, 3 of 4 on port {port} (RANK=0 WORLD_SIZE=4), for at most 3 s\n" in job.output
    said = "ranks 1, 3 of 4 did not come within 3 s (RANK=0 WORLD_SIZE=4: if they are an earlier job's, unset them)"
    assert f"error: {said}\n" in job.output
    assert "error: rank 0 of 4 did not come within 3 s" in job.output


def test_a_rank_0_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "QUIET_SECONDS", 0.2)

    def own(rank: int) -> dict[str, str]:
        return {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "no-such-host.invalid", "MASTER_PORT": "29500"}

    job = by_hand(1, size, tmp_path, schema.Train(timeout_seconds=1), own)
    assert job.codes == [1]
    waited, error = job.output.splitlines()
    assert waited.startswith("waiting for rank 0 at no-such-host.invalid:29500: ")
    assert error.startswith("error: rank 0 of 2 did not come within 1 s (RANK=1 WORLD_SIZE=2: if they are an earlier")


def has_ended(pid: str) -> bool:
    """Whether the process is a zombie, or is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_two_processes_with_the_same_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "MISSED_SECONDS", 0.5)
    port = str(free_port())

    def own(rank: int) -> dict[str, str]:
        return {"RANK": str(min(rank, 1)), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    def linger(world: World) -> None:
        """Until the third process has ended: a store that is gone would tell it something else."""
        siblings = Path(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read_text().split()
        until = time.monotonic() + 100
        while time.monotonic() < until and not any(has_ended(pid) for pid in siblings):
            time.sleep(0.1)

    job = by_hand(3, linger, tmp_path, own=own)
    assert sorted(job.codes) == [0, 0, 2], job.output
    assert f"RANK=1 WORLD_SIZE=2: the ranks at 127.0.0.1:{port} met without this process; give each" in job.output


def test_ranks_that_were_told_different_world_sizes(tmp_path: Path) -> None:
    port = str(free_port())

    def own(rank: int) -> dict[str, str]:
        return {"RANK": str(rank), "WORLD_SIZE": str(2 + rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    job = by_hand(2, size, tmp_path, own=own)
    assert job.codes == [2, 2], job.output
    for line in ("rank 1 has WORLD_SIZE=3, rank 0 2", "rank 0 has WORLD_SIZE=2, rank 1 3"):
        assert f"error: {line}; start all ranks with the same\n" in job.output


def until(file: Path) -> None:
    """Wait until another rank has made it."""
    while not file.exists():
        time.sleep(0.01)


def test_a_rank_that_comes_while_an_earlier_attempt_ends(tmp_path: Path) -> None:
    """Only one worker was restarted yet: the old rank 0's store has met another process of this rank."""
    port, met, left = str(free_port()), tmp_path / "met", tmp_path / "left"

    def own(rank: int) -> dict[str, str]:
        if rank == 2:  # rank 0 again, when the old one has ended
            until(left)
            time.sleep(0.5)
        if rank == 3:  # rank 1 again, while the old rank 0 lives
            until(met)
        return {"RANK": str(rank % 2), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}

    def work(world: World) -> int:
        if not left.exists():
            met.touch()
            time.sleep(1.5)
            left.touch()
            os._exit(9)
        return size(world)

    job = by_hand(4, work, tmp_path, own=own)
    assert job.codes == [9, 9, 0, 0], job.output
    assert job.values[2:] == [2, 2]


@pytest.mark.parametrize("port", [0, 29500], ids=["below torchrun", "without torchrun"])
def test_a_rank_asks_the_store_for_itself_alone(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What 256 ranks ask and are answered while they meet; how often they look is a question of time, and left out."""
    for name, counting in in_memory().items():
        monkeypatch.setattr(rendezvous, name, counting)
    given(monkeypatch, "" if port else "TORCHELASTIC_USE_AGENT_STORE=True MASTER_ADDR=127.0.0.1 MASTER_PORT=2")
    size = 256
    counts = greet(range(size), size, port)
    first = counts.pop(0)
    assert first["requests"] <= 5 * first["looks"] + 20, "rank 0 reads one list, however many ranks there are"
    assert first["bytes"] <= (60 * (first["looks"] + 3) + 200) * size
    for each in counts.values():
        assert each["requests"] <= each["looks"] + 10
        assert each["bytes"] <= 150 * size // 8 + 5 * size + 100, "a line for each host, and a number for each rank"


def test_the_more_ranks_wait_the_less_often_each_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    for asking in (1, 32, 1024, 10_000):
        rendezvous.Wait(timedelta(seconds=9), asking).pause("others")
    assert pauses == [0.02, 0.02, 0.1024, 1.0]
