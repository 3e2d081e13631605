"""Checks of this host: software versions, GPUs, processors, shared memory, and its scheduler or container."""

import importlib.metadata
import os
import platform
import re
import resource
import shutil
import tempfile
import time
from pathlib import Path

import torch

from src import limits, resources
from src.doctor.findings import Finding, Plan, green, red, yellow
from src.doctor.model_size import parameters
from src.errors import UserError
from src.gradients import build as gradients
from src.gradients import shared_file, shared_memory
from src.launchers import slurm
from src.world import world as worlds
from src.world.world import World

DRIVER_GPUS = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU of the driver, whether torch uses it or not
OPEN_FILES = 64  # of a rank: Python, torch, the data, the run; each other rank takes some more
LEAST_FILE = 100_000  # bytes of a checkpoint, a data set's index and W&B's files beside the weights
CONTAINERS = {"/.dockerenv": "Docker", "/run/.containerenv": "Podman", "/.singularity.d": "Apptainer"}


def versions(plan: Plan) -> Finding:
    """The versions of Python, torch, the torchvision made for it, NCCL and gloo."""
    backends = worlds.backends()
    text = f"Python {platform.python_version()}, torch {torch.__version__}"
    try:
        vision = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return red(f"{text}, no torchvision", "make setup")
    text += f", torchvision {vision}" + "".join(f", {name} {number}".rstrip() for name, number in backends.items())
    pinned = re.search(r"\btorch ?\(?==([\w.]+)", " ".join(importlib.metadata.requires("torchvision") or []))
    if pinned and pinned[1] != str(torch.__version__).partition("+")[0]:
        return red(f"{text}: torchvision {vision} is made for torch {pinned[1]}", "make setup")
    if "gloo" not in backends:
        return red(f"{text}: this torch has no gloo, which all ranks need", "make setup")
    if "nccl" not in backends and torch.cuda.device_count():
        return red(f"{text}: this torch has no NCCL, which ranks on GPUs need", "make setup, or train.device=cpu")
    return green(text)


def gpus(plan: Plan) -> Finding:
    """Whether every rank gets a GPU, and whether each GPU computes."""
    device, count = plan.settings.train.device, torch.cuda.device_count()
    if device == "cpu":
        return green("not used (train.device=cpu)")
    installed = len(list(DRIVER_GPUS.glob("*")))
    if installed > count:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = (
            f"CUDA_VISIBLE_DEVICES={hidden} hides some" if hidden is not None else "torch was built for another driver?"
        )
        fix = "unset it" if hidden is not None else "make setup, or install a newer driver"
        return (red if device == "cuda" else yellow)(f"{installed} installed, torch sees {count}: {why}", fix)
    if not count:
        return red("train.device=cuda, but no GPU", "train.device=cpu") if device == "cuda" else green("none: CPU")
    for number in range(count):
        if float(torch.ones(8, device=f"cuda:{number}").sum()) != 8:
            return red(
                f"GPU {number}: a sum is wrong", f"nvidia-smi -q -i {number}; exclude it with CUDA_VISIBLE_DEVICES="
            )
    names = ", ".join(sorted({torch.cuda.get_device_name(number) for number in range(count)}))
    if plan.ranks > count:
        text, fix = f"{count} x {names} for {plan.ranks} ranks", f"start {count} ranks"
        return red(text, fix) if device == "cuda" else yellow(f"{text}: all ranks train on the CPU", fix)
    return green(f"{count} x {names}, each computes")


def cores(plan: Plan) -> Finding:
    """Whether there is a processor for every thread of the ranks."""
    available, threads = resources.processors(), plan.settings.train.threads
    text = f"{plan.ranks} rank(s) x {threads} thread(s) on {available} CPU(s)"
    if plan.ranks * threads <= available:
        load = os.getloadavg()[0]
        return green(text) if load < available else yellow(f"{text}, which are busy (load {load:.0f})", "uptime; top")
    fewer = max(1, available // threads)
    if threads > 1:
        return red(f"{text}: a step takes 10 times as long", f"train.threads=1, or {fewer} rank(s)")
    return yellow(f"{text}: ranks share a processor", f"start {available} rank(s)")


def memory(plan: Plan) -> Finding:
    """Whether /dev/shm has space for the gradients."""
    train, folder = plan.settings.train, shared_file.FOLDER
    if train.exchange == "backend" or plan.nodes or 0 < plan.ranks <= gpu_count(plan):
        return green("not used for gradients")
    if reason := shared_memory.objection(World()):
        fix = "mount a tmpfs there; without it gradients go through gloo, 4 to 7 times slower"
        return (red if train.exchange == "shared_memory" else yellow)(reason, fix)
    need = shared_memory.size(plan.ranks, len(gradients.tree_of(train, plan.ranks).blocks))
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, need)
    except OSError as error:
        fix = "start the container with --shm-size=1g, or delete old files there; or train.exchange=backend"
        return red(f"{folder}: no space for {need / 1e6:.1f} MB of gradients ({error.strerror})", fix)
    return green(f"{folder}: {shutil.disk_usage(folder).free / 1e6:,.0f} MB free, the gradients take {need / 1e6:.1f}")


def gpu_count(plan: Plan) -> int:
    """The number of GPUs that the job would train on."""
    return torch.cuda.device_count() if plan.settings.train.device != "cpu" else 0


def surroundings(plan: Plan) -> Finding:
    """Whether this host is in Slurm, Kubernetes or a container, and what that changes."""
    lines = []
    if job := os.environ.get("SLURM_JOB_ID"):
        lines.append(f"Slurm job {job}: start it as launch/slurm.sbatch does, it requeues itself{_time_limit()}")
    elif shutil.which("sbatch"):
        lines.append("a login node of Slurm: sbatch launch/slurm.sbatch; to check a node: srun python -m src.doctor")
    kind = next((kind for file, kind in CONTAINERS.items() if Path(file).exists()), "")
    kind = "Kubernetes" if "KUBERNETES_SERVICE_HOST" in os.environ else kind
    if kind:
        lines.append(f"{kind}: CPUs, /dev/shm and the disk are the container's; put run.root and data.root on a volume")
    return green("; ".join(lines) or "a plain host: neither Slurm nor a container")


def _time_limit() -> str:
    """When the Slurm job ends, '' if that is not known."""
    end = slurm.end_time()
    if end == float("inf"):
        return ""
    try:
        return f"; the ranks save 30 s before its end at {time.strftime('%F %T', time.localtime(end))}"
    except (ValueError, OverflowError, OSError):
        return ""


def process_limits(plan: Plan) -> Finding:
    """Whether what a process may have (ulimit) is enough for the job."""
    try:
        checkpoint = 3 * 4 * parameters(plan.settings) + LEAST_FILE
    except UserError:  # another check says what is wrong with the data or the model
        checkpoint = LEAST_FILE
    hosts = 1 + len(plan.nodes)
    if found := limits.too_low(checkpoint, OPEN_FILES + 4 * plan.ranks * hosts):
        return red("; ".join(text for text, _ in found), "; ".join(fix for _, fix in found))
    seconds = resource.getrlimit(resource.RLIMIT_CPU)[0]
    if seconds != resource.RLIM_INFINITY:
        return yellow(f"the kernel ends a rank after {seconds} s of CPU time", "ulimit -t unlimited")
    return green("address space, size of a file and open files suffice")
