"""What this host offers the ranks: software, GPUs, processors, shared memory; and what it is a part of."""

import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
import time
from pathlib import Path

import torch

from src import environment
from src.doctor.findings import Finding, Plan, green, red, yellow
from src.gradients import build as gradients
from src.gradients import shared_memory
from src.world import world as distributed
from src.world.world import World

CARDS = Path("/proc/driver/nvidia/gpus")  # what the driver has, whatever torch says
CONTAINERS = {"/.dockerenv": "Docker", "/run/.containerenv": "Podman", "/.singularity.d": "Apptainer"}


def versions(plan: Plan) -> Finding:
    """Python, torch, its pair torchvision, NCCL and gloo."""
    backends = distributed.backends()
    told = f"Python {platform.python_version()}, torch {torch.__version__}"
    try:
        vision = importlib.metadata.version("torchvision")
    except importlib.metadata.PackageNotFoundError:
        return red(f"{told}, no torchvision", "make setup")
    told += f", torchvision {vision}" + "".join(f", {name} {number}".rstrip() for name, number in backends.items())
    wanted = re.search(r"\btorch ?\(?==([\w.]+)", " ".join(importlib.metadata.requires("torchvision") or []))
    if wanted and wanted[1] != str(torch.__version__).partition("+")[0]:
        return red(f"{told}: torchvision {vision} is made for torch {wanted[1]}", "make setup")
    if "gloo" not in backends:
        return red(f"{told}: this torch has no gloo, through which ranks meet", "make setup")
    if "nccl" not in backends and torch.cuda.device_count():
        return red(f"{told}: this torch has no NCCL, through which GPUs add", "make setup, or train.device=cpu")
    return green(told)


def gpus(plan: Plan) -> Finding:
    """Whether every rank gets a GPU, and each computes."""
    wanted, there = plan.settings.train.device, torch.cuda.device_count()
    if wanted == "cpu":
        return green("not wanted (train.device=cpu)")
    cards = len(list(CARDS.glob("*")))
    if cards > there:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = f"CUDA_VISIBLE_DEVICES={hidden} hides some" if hidden is not None else "is its build older or newer?"
        fix = "unset it" if hidden is not None else "make setup, or a newer driver"
        return (red if wanted == "cuda" else yellow)(f"{cards} here, torch uses {there}: {why}", fix)
    if not there:
        return red("train.device=cuda, but none here", "train.device=cpu") if wanted == "cuda" else green("none: CPU")
    for number in range(there):
        if float(torch.ones(8, device=f"cuda:{number}").sum()) != 8:
            return red(f"GPU {number} adds wrong", f"nvidia-smi -q -i {number}; leave it out: CUDA_VISIBLE_DEVICES=")
    names = ", ".join(sorted({torch.cuda.get_device_name(number) for number in range(there)}))
    if plan.ranks > there:
        told = f"{there} x {names} for {plan.ranks} ranks"
        return (
            red(told, f"start {there} ranks") if wanted == "cuda" else yellow(f"{told}: all on CPU", f"{there} ranks")
        )
    return green(f"{there} x {names}, each computes")


def cores(plan: Plan) -> Finding:
    """The ranks' threads against the processors that they may use."""
    there, threads = environment.processors(), plan.settings.train.threads
    told = f"{plan.ranks} rank(s) x {threads} thread(s) on {there} CPU(s)"
    if plan.ranks * threads <= there:
        busy = os.getloadavg()[0]
        return green(told) if busy < there else yellow(f"{told}, which are busy (load {busy:.0f})", "uptime; top")
    fewer = max(1, there // threads)
    if threads > 1:
        return red(f"{told}: a step takes 10 times as long", f"train.threads=1, or {fewer} rank(s)")
    return yellow(f"{told}: they take turns", f"start {there} rank(s)")


def memory(plan: Plan) -> Finding:
    """Room in /dev/shm for the exchange of the gradients."""
    train, folder = plan.settings.train, shared_memory.FOLDER
    if train.exchange == "backend" or plan.nodes or 0 < plan.ranks <= gpu_count(plan):
        return green("not used for gradients")
    if reason := shared_memory.objection(World()):
        fix = "mount a tmpfs there; until then gradients go through gloo, 4 to 7 times slower"
        return (red if train.exchange == "shared_memory" else yellow)(reason, fix)
    need = shared_memory.size(plan.ranks, gradients.local_shards(train, World(size=plan.ranks))[0])
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, need)
    except OSError as error:
        fix = "give a container --shm-size=1g, or remove what dead jobs left there; or train.exchange=backend"
        return red(f"{folder}: no {need / 1e6:.1f} MB for the gradients ({error.strerror})", fix)
    return green(f"{folder}: {shutil.disk_usage(folder).free / 1e6:,.0f} MB free, the gradients take {need / 1e6:.1f}")


def gpu_count(plan: Plan) -> int:
    """GPUs that the job would train on."""
    return torch.cuda.device_count() if plan.settings.train.device != "cpu" else 0


def surroundings(plan: Plan) -> Finding:
    """Slurm, Kubernetes or a container, and what that changes."""
    told = []
    if job := os.environ.get("SLURM_JOB_ID"):
        told.append(f"Slurm job {job}: start with launch/slurm.sbatch's srun line, it requeues itself{_end()}")
    elif shutil.which("sbatch"):
        told.append("Slurm's commands are here: sbatch launch/slurm.sbatch; look at a node: srun python -m src.doctor")
    kind = next((kind for file, kind in CONTAINERS.items() if Path(file).exists()), "")
    kind = "Kubernetes" if "KUBERNETES_SERVICE_HOST" in os.environ else kind
    if kind:
        told.append(f"{kind}: CPUs, /dev/shm and the disk are the container's; keep run.root and data.root on a volume")
    return green("; ".join(told) or "a plain host: neither Slurm nor a container")


def _end() -> str:
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    return f"; saves 30 s before its end at {time.strftime('%F %T', time.localtime(int(end)))}" if end.isdigit() else ""
