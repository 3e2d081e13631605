"""A check that two real ranks can connect and sum gradients with the settings of the job.

`python -m src.doctor.rehearsal` is their parent process, which imports torch once for both.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from src import config, console, interrupts, leaving
from src.data.loader import MicroBatch
from src.doctor import network_checks
from src.doctor.findings import Finding, Plan, green, red
from src.doctor.model_size import parameters
from src.gradients import build as gradients
from src.schema import Config
from src.world import interfaces
from src.world import world as worlds
from src.world.world import World

RANKS, STEPS = 2, 50
GRACE_SECONDS = 5  # for the other rank, after one has failed: its error may say more


def rehearse(settings: Config, world: World) -> dict[str, Any]:
    """Sum gradients as long as the model's STEPS times: those of shard i are all i + 1.

    Returns the name of the exchange, whether the sum is right, the median seconds of a step, and the length.
    """
    length = parameters(settings)
    module = nn.Linear(1, length, bias=False, device=world.device)
    shards, local = gradients.local_shards(settings.train, world)
    parts = [MicroBatch(torch.full((1, 1), shard + 1.0, device=world.device), torch.zeros(1)) for shard in local]
    train = replace(settings.train, cuda_graph=False)  # the sums are what is tried, and here may be no GPU
    built = gradients.build_gradients(module, lambda layer, inputs, _: (layer(inputs).sum(), 0), train, world)
    times = []
    for step in range(STEPS):
        began = time.perf_counter()
        built.forward_backward(parts, step, False)
        times.append(time.perf_counter() - began)
    assert module.weight.grad is not None
    right = bool((module.weight.grad == shards * (shards + 1) / 2).all())
    return {"exchange": built.name, "right": right, "seconds": sorted(times)[STEPS // 2], "length": length}


def all_reduce(plan: Plan) -> Finding:
    """Whether two ranks of the job can sum gradients, and how fast."""
    whole_job = World(size=plan.ranks * (1 + len(plan.nodes)))
    gradients.local_shards(plan.settings.train, whole_job)  # raises UserError for too many ranks
    with _start(plan) as process:
        try:
            output, errors = process.communicate(timeout=plan.seconds - 1)
        except subprocess.TimeoutExpired:
            load = f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} CPUs"
            fix = "wait longer with --seconds=120; check for a firewall on loopback; NCCL_DEBUG=INFO on GPUs"
            return red(f"{RANKS} ranks did not add within {plan.seconds:.0f} s ({load})", fix)
        finally:
            process.kill()  # the kernel ends its ranks too (exit_on_signal)
    if process.returncode:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        return red(
            f"{RANKS} ranks failed: {lines[-1][:300] if lines else 'without an error message'}", "see the other checks"
        )
    answer = json.loads(output.splitlines()[-1])
    text = f"{RANKS} ranks add {answer['length']:,} numbers in {1e6 * answer['seconds']:,.0f} us: {answer['exchange']}"
    return green(text) if answer["right"] else red(f"{text}, but the sum is wrong", "train.exchange=backend")


def _start(plan: Plan) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")}
    arguments = list(plan.arguments)
    if plan.nodes:  # use the network interface, as ranks on several hosts do, and not shared memory
        environment |= {"GLOO_SOCKET_IFNAME": network_checks.gloo_interface(plan) or "lo"}
        arguments.append("train.exchange=backend")
    command = [sys.executable, "-m", "src.doctor.rehearsal", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=Path(__file__).parent.parent.parent, **pipes)


def free_port() -> int:
    """A free port of the loopback interface."""
    address = interfaces.loopback()
    with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET) as server:
        return int(server.getsockname()[1])


def rank() -> None:
    """The main function of a rank; rank 0 prints the result as JSON."""
    interrupts.exit_on_signal(with_parent=True)
    with console.one_line_errors(of_ranks=True):
        settings = config.parse(sys.argv[1:])
        with worlds.join(settings.train) as world:
            answer = rehearse(settings, world)
            if world.rank == 0:
                print(json.dumps(answer), flush=True)


def main() -> None:
    """Fork the ranks, and end both if one fails."""
    torch.optim.SGD([torch.zeros(1)])  # imports modules that DDP needs, which takes a second: once, before the fork
    os.environ |= {"WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)}
    os.environ |= {"MASTER_ADDR": interfaces.loopback(), "MASTER_PORT": str(free_port())}
    for number in range(RANKS):
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number)}
        if os.fork() == 0:
            leaving.end_now(leaving.exit_code(rank))
    interrupts.exit_on_signal(with_parent=True)  # only now: its thread would not be in the forks
    failed = False
    for _ in range(RANKS):
        if os.wait()[1]:
            failed = True
            signal.alarm(
                GRACE_SECONDS
            )  # ends this process, and with it the rank that waits for the failed one (exit_on_signal)
    raise SystemExit(failed)


if __name__ == "__main__":
    leaving.run_and_leave(main)
