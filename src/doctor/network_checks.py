"""Checks of the network: host name, interface, port, the other hosts and their clocks, W&B."""

import base64
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException

from src.doctor.findings import Finding, Plan, green, red, yellow
from src.launchers import slurm
from src.launchers.variables import whole
from src.tracking import account
from src.world import interfaces

PORT = 29500  # torchrun's default
SLOW_SECONDS = 2.0
WANDB_SECONDS = 5.0
MAX_CLOCK_DIFFERENCE_SECONDS = 1.0, 5.0  # yellow above the first, red above the second
ANSWER_SECONDS = 10  # longest time for one host
PARALLEL_HOSTS = 16
# A shell command for another host: prints its clock, and whether it can connect to a port of this host.
HOST_COMMAND = 'date +%s.%N; timeout 3 bash -c "exec 3<>/dev/tcp/{address}/{port}" 2>/dev/null && echo reached'


def name(plan: Plan) -> Finding:
    """Whether this host's name resolves to an address that other hosts can use."""
    hostname, began = socket.gethostname(), time.monotonic()
    fix = f"a line in /etc/hosts: ADDRESS {hostname}"
    if not (found := interfaces.resolve(hostname)):
        # launch/ and `make train` give torchrun an address. Plain torchrun resolves the name, which takes minutes.
        return (red if plan.nodes else yellow)(f"{hostname}: does not resolve", fix)
    address = found[0]
    seconds = time.monotonic() - began
    if plan.nodes and interfaces.is_loopback(address) and not os.environ.get("GLOO_SOCKET_IFNAME"):
        fix = f"give {hostname} its network address in /etc/hosts, or set GLOO_SOCKET_IFNAME=eth0 on every host"
        return red(f"{hostname} is {address}, a loopback address that other hosts cannot use", fix)
    if seconds > SLOW_SECONDS:
        return yellow(f"{hostname} is {address}, resolved in {seconds:.1f} s", fix)
    return green(f"{hostname} is {address}")


def gloo_interface(plan: Plan) -> str:
    """The interface that gloo uses; '' if none.

    That of GLOO_SOCKET_IFNAME, else loopback on one host, else that of the host name's address.
    """
    if named := os.environ.get("GLOO_SOCKET_IFNAME"):
        return named
    if not plan.nodes:
        return "lo"
    return next(filter(None, map(interfaces.of, interfaces.resolve(socket.gethostname()))), "")


def interface(plan: Plan) -> Finding:
    """Whether gloo has an interface through which the ranks can connect."""
    available, chosen = interfaces.addresses(), gloo_interface(plan).split(",")[0]
    listed = ", ".join(f"{name} {addresses[0]}" for name, addresses in available.items()) or "none is up"
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if interfaces.missing(variable, available):
            named = os.environ[variable]
            return red(f"{variable}={named}: no such interface with an address ({listed})", f"unset {variable}")
    if chosen not in available:
        fix = "ip link set lo up" if chosen == "lo" else "GLOO_SOCKET_IFNAME= one that the other hosts can reach"
        return red(f"gloo has no interface {chosen or 'for the host name'} ({listed})", fix)
    address = available[chosen][0]
    if plan.nodes and interfaces.is_loopback(address):
        return red(f"gloo uses {chosen}: the other hosts cannot reach it ({listed})", "GLOO_SOCKET_IFNAME= another one")
    return green(f"gloo uses {chosen} ({address})")


def port(plan: Plan) -> Finding:
    """Whether the port of the rendezvous is free."""
    job, given = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("MASTER_PORT", str(PORT))
    if (number := whole(job)) is not None and "MASTER_PORT" not in os.environ:
        given = str(20_000 + number % 10_000)  # as launch/slurm.sbatch does
    if not 0 < (whole(given) or 0) < 65536:
        return red(f"MASTER_PORT={given[:60]}: not a port", "unset MASTER_PORT")
    try:
        _listen(int(given)).close()
    except OSError as error:
        return red(f"port {given}: {os.strerror(error.errno or 0).lower()}", "torchrun --standalone, or --master-port=")
    return green(f"port {given} is free")


def wandb(plan: Plan) -> Finding:
    """Whether W&B can take the run's metrics, or why none are sent."""
    track = plan.settings.track
    mode, required = account.mode(track), track.wandb == "online"
    if mode == "disabled":
        return green("disabled: metrics.jsonl only")
    if importlib.util.find_spec("wandb") is None:
        return (red if required else yellow)(
            "the package wandb is not installed", "make setup, or track.wandb=disabled"
        )
    if required and not account.has_key():
        return red("track.wandb=online, but no API key is set", "wandb login, or WANDB_API_KEY=")
    if mode == "offline":
        why = "" if track.wandb == "offline" or account.has_key() else ", no API key is set"
        return green(f"offline{why}: `python -m src.track push` uploads the metrics later")
    if reason := _objection(account.server(), account.key()):
        text = f"{account.server()}: {reason}; the metrics would be kept for `python -m src.track push`"
        return (red if required else yellow)(text, "wandb login --relogin, WANDB_BASE_URL=, or track.wandb=offline")
    return green(f"online: {account.server()} accepts the API key")


def _objection(server: str, key: str) -> str:
    """Why the server does not accept the API key, '' if it does."""
    query = json.dumps({"query": "query Viewer { viewer { id } }", "operationName": "Viewer"}).encode()
    login = base64.b64encode(f"api:{key}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
    try:
        request = urllib.request.Request(f"{server}/graphql", query, headers)
        with urllib.request.urlopen(request, timeout=WANDB_SECONDS) as answer:
            viewer = (json.load(answer).get("data") or {}).get("viewer")
    except urllib.error.HTTPError as error:
        return "refuses the API key" if error.code in (401, 403) else f"answers with {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        return f"does not answer ({getattr(error, 'reason', None) or error})"
    return "" if viewer else "does not accept the API key"


def hosts(given: str) -> list[str]:
    """The other hosts in a list such as a,b or node[1-4]; by default those of the Slurm job. Raises UserError."""
    text = given or (os.environ.get("SLURM_JOB_NODELIST", "") if "SLURM_JOB_ID" in os.environ else "")
    names = slurm.expand(text)
    hostname = socket.gethostname()
    this_host = {hostname, hostname.partition(".")[0], os.environ.get("SLURMD_NODENAME", hostname), "localhost"}
    return [host.strip() for host in names if host.strip() and host.strip() not in this_host]


def clocks(plan: Plan) -> Finding:
    """Whether the other hosts answer, can connect to this host, and have the same time."""
    if not plan.nodes:
        return green("one host; --nodes a,b checks others")
    program = "srun" if "SLURM_JOB_ID" in os.environ and shutil.which("srun") else "ssh"
    if not shutil.which(program):
        return red(
            "neither srun (inside a job) nor ssh is installed, to run a command there",
            "apt install openssh-client, or salloc",
        )
    with _listening(plan) as (address, number), ThreadPoolExecutor(PARALLEL_HOSTS) as pool:
        command = HOST_COMMAND.format(address=address, port=number)
        answers = list(pool.map(lambda host: (host, *_ask(program, host, command)), plan.nodes))
    text = f"{len(answers)} asked by {program}"
    if silent := [f"{host} ({reason or 'no answer'})" for host, ahead, reason in answers if ahead is None]:
        fix = f"`ssh {plan.nodes[0]} date` must work without a prompt (a key, known_hosts)" if program == "ssh" else ""
        return red(f"{text}: {', '.join(silent)}", fix or "scontrol show node")
    if unconnected := [host for host, _, reason in answers if reason != "reached"]:
        fix = "open the ports between the hosts, or GLOO_SOCKET_IFNAME= the interface of their network"
        return red(f"{text}: {', '.join(unconnected)} cannot connect to {address}:{number} on this host", fix)
    host, ahead = max(((host, ahead or 0.0) for host, ahead, _ in answers), key=lambda answer: abs(answer[1]))
    text += f": all reach {address}, clocks differ by at most {abs(ahead):.1f} s ({host})"
    warning, error = MAX_CLOCK_DIFFERENCE_SECONDS
    if abs(ahead) < warning:
        return green(text)
    return (red if abs(ahead) > error else yellow)(text, f"set the clock of {host} or of this host (chrony, ntpd)")


@contextmanager
def _listening(plan: Plan) -> Iterator[tuple[str, int]]:
    """The address and port of a socket on this host that accepts connections."""
    with _listen(0) as server:
        mine = interfaces.addresses().get(gloo_interface(plan).split(",")[0]) or [socket.gethostname()]
        yield mine[0], server.getsockname()[1]


def _listen(number: int) -> socket.socket:
    """A socket that accepts connections to this port, of IPv4 and IPv6 where there is both."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", number), family=socket.AF_INET6, backlog=128, dualstack_ipv6=True)
    return socket.create_server(("", number), backlog=128)


def _ask(program: str, host: str, command: str) -> tuple[float | None, str]:
    """(seconds by which the host's clock is ahead, "reached" or its output); None if it printed no time."""
    words = {
        "ssh": ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=4", host, command],
        "srun": ["srun", "--overlap", "--nodes=1", "--ntasks=1", "--cpu-bind=none", "-w", host, "sh", "-c", command],
    }[program]
    with subprocess.Popen(
        ["timeout", str(ANSWER_SECONDS), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            try:
                return float(line) - time.time(), process.stdout.read().strip()
            except ValueError:
                continue  # a login banner or an error
    return None, lines[-1] if lines else ""
