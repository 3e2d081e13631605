"""Two ranks that meet and add, as the job's will: real processes, the job's own settings, a sum that is known.

`python -m src.doctor.rehearsal` is their parent: it imports torch once for both.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from src import config, console, interrupts
from src.data.loader import MicroBatch
from src.doctor import network_checks
from src.doctor.findings import Finding, Plan, green, red
from src.doctor.model_size import parameters
from src.gradients import build as gradients
from src.schema import Config
from src.world import world as worlds
from src.world.world import World

RANKS, STEPS = 2, 50
GRACE_SECONDS = 5  # for the other rank, once one has failed: it may know more


def rehearse(settings: Config, world: World) -> dict[str, Any]:
    """Add, as often as STEPS, gradients as long as the model's: each shard's are its number plus one."""
    length = parameters(settings)
    module = nn.Linear(1, length, bias=False, device=world.device)
    number, own = gradients.local_shards(settings.train, world)
    parts = [MicroBatch(torch.full((1, 1), shard + 1.0, device=world.device), torch.zeros(1)) for shard in own]
    built = gradients.build_gradients(module, lambda layer, inputs, _: (layer(inputs).sum(), 1), settings.train, world)
    times = []
    for step in range(STEPS):
        began = time.perf_counter()
        built.forward_backward(parts, 1, step, False)
        times.append(time.perf_counter() - began)
    assert module.weight.grad is not None
    right = bool((module.weight.grad == number * (number + 1) / 2).all())
    return {"way": built.name, "right": right, "seconds": sorted(times)[STEPS // 2], "length": length}


def all_reduce(plan: Plan) -> Finding:
    """Start the two ranks, wait for them, and tell what they did."""
    everybody = World(size=plan.ranks * (1 + len(plan.nodes)))
    gradients.local_shards(plan.settings.train, everybody)  # raises UserError for too many ranks
    with _start(plan) as process:
        try:
            said, errors = process.communicate(timeout=plan.seconds - 1)
        except subprocess.TimeoutExpired:
            busy = f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} CPUs"
            fix = "--seconds=120 waits longer; a firewall on loopback? NCCL_DEBUG=INFO says more on GPUs"
            return red(f"{RANKS} ranks did not add within {plan.seconds:.0f} s ({busy})", fix)
        finally:
            process.kill()  # its ranks go with it
    if process.returncode:
        lines = [line.strip() for line in errors.splitlines() if line.strip()]
        return red(f"{RANKS} ranks failed: {lines[-1][:300] if lines else 'without a word'}", "see the other lines")
    answer = json.loads(said.splitlines()[-1])
    told = f"{RANKS} ranks add {answer['length']:,} numbers in {1e6 * answer['seconds']:,.0f} us: {answer['way']}"
    return green(told) if answer["right"] else red(f"{told}, but the sum is wrong", "train.exchange=backend")


def _start(plan: Plan) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCHELASTIC")}
    arguments = list(plan.arguments)
    if plan.nodes:  # as between hosts: through the network's interface, not through memory
        environment |= {"GLOO_SOCKET_IFNAME": network_checks.taken(plan) or "lo"}
        arguments.append("train.exchange=backend")
    command = [sys.executable, "-m", "src.doctor.rehearsal", *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, cwd=Path(__file__).parent.parent.parent, **pipes)


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def rank() -> None:
    """One of the two."""
    interrupts.exit_on_signal()
    with console.one_line_errors():
        settings = config.parse(sys.argv[1:])
        with worlds.join(settings.train) as world:
            answer = rehearse(settings, world)
            if world.rank == 0:
                print(json.dumps(answer), flush=True)


def main() -> None:
    """Fork the ranks, and end them all when one fails."""
    interrupts.exit_on_signal()
    torch.optim.SGD([torch.zeros(1)])  # imports for a second what DDP needs too: here once, not in every rank
    os.environ |= {"WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    for number in range(RANKS):
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number)}
        if os.fork() == 0:
            console.run_and_leave(rank)
    failed = False
    for _ in range(RANKS):
        if os.wait()[1]:
            failed = True
            signal.alarm(GRACE_SECONDS)  # ends this process, and with it the rank that waits for the failed one
    raise SystemExit(failed)


if __name__ == "__main__":
    console.run_and_leave(main)
