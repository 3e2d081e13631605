"""What made a run: command, code, versions, hosts, devices, data. Nothing of the environment."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from src import model_file
from src.addresses import without_secrets
from src.data.dataset import DataSet


def provenance(everywhere: list[str], devices: list[str], dataset: DataSet, model: Path) -> dict[str, Any]:
    """What provenance.json holds, of the ranks' hosts and devices, the data set and the model's file.

    Asks git: once, on rank 0.
    """
    return {
        "command": without_secrets(" ".join(["python -m src.train", *sys.argv[1:]])),
        "git": _git(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "platform": platform.platform(),
        "hosts": sorted(set(everywhere)),
        "world_size": len(everywhere),
        "devices": devices,
        "data": {"name": dataset.name, "note": dataset.note, "sha256": dataset.checksums},
        "model": {"file": model.name, "sha256": model_file.code_sha256(model)},
    }


def _git() -> dict[str, Any] | None:
    """The commit: asked of git, or where there is none (a container image) the one that was built, None if unknown."""

    def ask(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "dirty": bool(ask("--no-optional-locks", "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        commit = os.environ.get("IMAGE_COMMIT", "")  # git describe --always --dirty
        return {"commit": commit.removesuffix("-dirty"), "dirty": commit.endswith("-dirty")} if commit else None


def device_name(device: torch.device) -> str:
    """The processor or GPU, as its maker calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        with open("/proc/cpuinfo") as lines:
            names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):
        return platform.machine()
