"""How ranks, hosts and W&B reach each other: names, the interface, the port, the other hosts' clocks."""

import base64
import fcntl
import importlib.util
import json
import os
import shutil
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPException

from src.doctor.findings import Finding, Plan, green, red, yellow
from src.errors import UserError
from src.tracking import account

PORT = 29500  # torchrun's, where none is given
SIOCGIFADDR = 0x8915
SLOW_SECONDS = 2.0
WANDB_SECONDS = 5.0
CLOCK_SECONDS = 1.0, 5.0  # apart: odd; too far for timestamps, time limits and requeues to mean anything
ANSWER_SECONDS = 10  # for a host, all in all
AT_ONCE = 16  # hosts asked at the same time
# What another host answers: its clock, and whether it reaches a port of this one, as its ranks must.
ASK = 'date +%s.%N; timeout 3 bash -c "exec 3<>/dev/tcp/{address}/{port}" 2>/dev/null && echo reached'


def name(plan: Plan) -> Finding:
    """Whether this host's name leads to an address, and to one that others can use."""
    own, began = socket.gethostname(), time.monotonic()
    fix = f"a line in /etc/hosts: ADDRESS {own}"
    try:
        address = socket.gethostbyname(own)
    except OSError as error:
        # launch/ and `make train` name addresses and ask for none; a bare torchrun asks, and waits for minutes.
        return (red if plan.nodes else yellow)(f"{own}: no address ({error.strerror or error})", fix)
    seconds = time.monotonic() - began
    if plan.nodes and address.startswith("127.") and not os.environ.get("GLOO_SOCKET_IFNAME"):
        fix = f"in /etc/hosts give {own} its network address, or GLOO_SOCKET_IFNAME=eth0 on every host"
        return red(f"{own} is {address}: the other hosts would look for it on themselves", fix)
    if seconds > SLOW_SECONDS:
        return yellow(f"{own} is {address}, found after {seconds:.1f} s", fix)
    return green(f"{own} is {address}")


def interfaces() -> dict[str, str]:
    """This host's network interfaces that have an IPv4 address, and that."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, interface in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
            except OSError:
                continue
            found[interface] = socket.inet_ntoa(answer[20:24])
    return found


def taken(plan: Plan) -> str:
    """The interface that gloo takes: the named one, loopback on one host, else the host name's; '' if none."""
    if named := os.environ.get("GLOO_SOCKET_IFNAME"):
        return named
    if not plan.nodes:
        return "lo"
    try:
        own = socket.gethostbyname(socket.gethostname())
    except OSError:
        return ""
    return next((interface for interface, address in interfaces().items() if address == own), "")


def interface(plan: Plan) -> Finding:
    """The interface through which the ranks talk."""
    there, chosen = interfaces(), taken(plan)
    listed = ", ".join(f"{interface} {address}" for interface, address in there.items()) or "none is up"
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        named = os.environ.get(variable, "")
        if named and not named.startswith(("^", "=")) and not set(named.split(",")) & there.keys():
            return red(f"{variable}={named}: no such interface with an address ({listed})", f"unset {variable}")
    if chosen.split(",")[0] not in there:
        fix = "ip link set lo up" if chosen == "lo" else "GLOO_SOCKET_IFNAME=the one that the other hosts reach"
        return red(f"gloo finds no interface {chosen or 'for the host name'} ({listed})", fix)
    if plan.nodes and there[chosen.split(",")[0]].startswith("127."):
        return red(f"gloo takes {chosen}: the other hosts cannot reach it ({listed})", "GLOO_SOCKET_IFNAME=another")
    return green(f"gloo takes {chosen} ({there[chosen.split(',')[0]]})")


def port(plan: Plan) -> Finding:
    """Whether the port where the ranks will meet is free."""
    job, given = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("MASTER_PORT", str(PORT))
    if job.isdigit() and "MASTER_PORT" not in os.environ:
        given = str(20_000 + int(job) % 10_000)  # as launch/slurm.sbatch does
    if not given.isdigit() or not 0 < int(given) < 65536:
        return red(f"MASTER_PORT={given}: is no port", "unset MASTER_PORT")
    try:
        socket.create_server(("", int(given))).close()
    except OSError as error:
        return red(f"port {given}: {os.strerror(error.errno or 0).lower()}", "torchrun --standalone, or --master-port=")
    return green(f"port {given} is free")


def wandb(plan: Plan) -> Finding:
    """Whether W&B is there for the copy of the record, or why none is sent."""
    track = plan.settings.track
    way, must = account.mode(track), track.wandb == "online"
    if way == "disabled":
        return green("disabled: metrics.jsonl alone")
    if importlib.util.find_spec("wandb") is None:
        return (red if must else yellow)("the package wandb is not installed", "make setup, or track.wandb=disabled")
    if must and not account.has_key():
        return red("track.wandb=online, but no key is set up", "wandb login, or WANDB_API_KEY=")
    if way == "offline":
        why = "" if track.wandb == "offline" or account.has_key() else ", no key is set up"
        return green(f"offline{why}: `python -m src.track push` sends the record later")
    if reason := _objection(account.server(), account.key()):
        told = f"{account.server()}: {reason}; the record would be kept for `python -m src.track push`"
        return (red if must else yellow)(told, "wandb login --relogin, WANDB_BASE_URL=, or track.wandb=offline")
    return green(f"online: {account.server()} knows the key")


def _objection(server: str, key: str) -> str:
    """Why the server does not take the key, '' if it does."""
    query = json.dumps({"query": "query Viewer { viewer { id } }", "operationName": "Viewer"}).encode()
    login = base64.b64encode(f"api:{key}".encode()).decode()
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {login}"}
    try:
        request = urllib.request.Request(f"{server}/graphql", query, headers)
        with urllib.request.urlopen(request, timeout=WANDB_SECONDS) as answer:
            known = (json.load(answer).get("data") or {}).get("viewer")
    except urllib.error.HTTPError as error:
        return "refuses the key" if error.code in (401, 403) else f"answers with {error.code}"
    except (OSError, HTTPException, ValueError) as error:
        return f"does not answer ({getattr(error, 'reason', None) or error})"
    return "" if known else "does not know the key"


def hosts(named: str) -> list[str]:
    """The other hosts of a list such as a,b or (Slurm's) node[1-4]; by default Slurm's own. Raises UserError."""
    text = named or (os.environ.get("SLURM_JOB_NODELIST", "") if "SLURM_JOB_ID" in os.environ else "")
    given = text.split(",")
    if "[" in text:
        try:
            done = subprocess.run(["scontrol", "show", "hostnames", text], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            raise UserError(f"--nodes={text}: scontrol cannot read it here", fix="write a,b,c") from None
        given = done.stdout.split()
    own = socket.gethostname()
    mine = {own, own.partition(".")[0], os.environ.get("SLURMD_NODENAME", own), "localhost"}
    return [host.strip() for host in given if host.strip() and host.strip() not in mine]


def clocks(plan: Plan) -> Finding:
    """The other hosts: whether they answer, reach this one, and have the same time."""
    if not plan.nodes:
        return green("one host; --nodes a,b looks at others")
    way = "srun" if "SLURM_JOB_ID" in os.environ and shutil.which("srun") else "ssh"
    if not shutil.which(way):
        return red("neither srun (inside a job) nor ssh is here to ask them", "apt install openssh-client, or salloc")
    with _listening(plan) as (address, number), ThreadPoolExecutor(AT_ONCE) as pool:
        ask = ASK.format(address=address, port=number)
        answers = list(pool.map(lambda host: (host, *_ask(way, host, ask)), plan.nodes))
    told = f"{len(answers)} asked by {way}"
    if silent := [f"{host} ({reason or 'no answer'})" for host, apart, reason in answers if apart is None]:
        fix = f"`ssh {plan.nodes[0]} date` must work without a question (a key, known_hosts)" if way == "ssh" else ""
        return red(f"{told}: {', '.join(silent)}", fix or "scontrol show node")
    if deaf := [host for host, _, reason in answers if reason != "reached"]:
        fix = "open the ports between the hosts, or GLOO_SOCKET_IFNAME=the interface that they share"
        return red(f"{told}: {', '.join(deaf)} cannot reach {address}:{number} here", fix)
    host, apart = max(((host, apart or 0.0) for host, apart, _ in answers), key=lambda answer: abs(answer[1]))
    told += f": all reach {address}, clocks at most {abs(apart):.1f} s apart ({host})"
    odd, wrong = CLOCK_SECONDS
    if abs(apart) < odd:
        return green(told)
    return (red if abs(apart) > wrong else yellow)(told, f"set the clock of {host} or of this host (chrony, ntpd)")


@contextmanager
def _listening(plan: Plan) -> Iterator[tuple[str, int]]:
    """An open port of this host, and the address under which the others look for it."""
    with socket.create_server(("", 0), backlog=128) as server:
        yield interfaces().get(taken(plan).split(",")[0]) or socket.gethostname(), server.getsockname()[1]


def _ask(way: str, host: str, ask: str) -> tuple[float | None, str]:
    """(seconds that the host's clock is ahead, "reached" or what it said); None where it gave no time."""
    words = {
        "ssh": ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=4", host, ask],
        "srun": ["srun", "--overlap", "--nodes=1", "--ntasks=1", "--cpu-bind=none", "-w", host, "sh", "-c", ask],
    }[way]
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
                continue  # a banner, or why there is no answer
    return None, lines[-1] if lines else ""
