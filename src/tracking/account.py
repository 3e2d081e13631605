"""W&B's mode, key, project and run id, from the settings, W&B's environment variables and its settings files.

Nothing here imports wandb or asks a server.
"""

import configparser
import netrc
import os
import secrets
import tempfile
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from src.addresses import without_secrets, without_users
from src.schema import Track

MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
ID = "wandb/id"  # in a run's folder
FOLDERS = {"CACHE": ".cache", "DATA": ".local/share"}  # that wandb has, below the home directory
LONGEST = 200  # characters of an error of W&B


def mode(settings: Track) -> str:
    """online, offline or disabled. `auto` asks WANDB_MODE (or `wandb offline`), then whether a key is set up."""
    if settings.wandb != "auto":
        return settings.wandb
    return MODES.get(_setting("mode"), "online" if has_key() else "offline")


def has_key() -> bool:
    """Whether W&B would find credentials without asking anybody."""
    return bool(os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or key())


def where(settings: Track) -> dict[str, Any]:
    """Project, entity and so on; where a setting has its default, W&B's environment variable wins."""
    default, given = Track(), {}
    for name in ("project", "entity", "group", "tags", "notes"):
        value = getattr(settings, name)
        variable = {"group": "WANDB_RUN_GROUP"}.get(name, f"WANDB_{name.upper()}")
        if value and not (value == getattr(default, name) and os.environ.get(variable)):
            given[name] = without_users(value)
    return given


def run_id(path: Path, warn: Callable[[str], None] = lambda text: None) -> str:
    """The run's one id at W&B, made and stored before W&B starts; a sweep's agent decides it by WANDB_RUN_ID.

    An id that belongs to another run beside this one (the variable is exported) is that run's.
    """
    stored = stored_id(path)
    given = os.environ.get("WANDB_RUN_ID", "")
    other = owner(path, given) if given else None
    wanted = given if given and other is None else stored or secrets.token_hex(4)
    if other is not None:
        warn(f"W&B: WANDB_RUN_ID={given} is the id of {other}; this run has its own, {wanted}")
    if wanted != stored:
        file = path / ID
        file.parent.mkdir(exist_ok=True)
        file.write_text(wanted + "\n")
    return wanted


def stored_id(path: Path) -> str:
    """The id that the run has, '' if it has none yet."""
    try:
        return (path / ID).read_text().strip()
    except OSError:
        return ""


def owner(path: Path, identity: str) -> Path | None:
    """The run beside this one that has the id, None if no other has it."""
    others = (file.parents[1] for file in path.parent.glob(f"*/{ID}"))
    return next((other for other in others if other.name != path.name and stored_id(other) == identity), None)


def forget_other_runs() -> None:
    """Forget what W&B's variables say of one run, or of a process: here are others."""
    for name in ("RUN_ID", "RESUME", "SWEEP_ID", "SWEEP_PARAM_PATH"):
        os.environ.pop(f"WANDB_{name}", None)


def prepare_environment() -> None:
    """Before wandb is imported: set what is no argument of it, and drop what leads to another process.

    W&B's service of a parent process may be gone, and would end with it. Where there is no home directory that can be
    written, W&B has its folders in TMPDIR, or it would print its log on stderr, or make a folder named `~`.
    """
    os.environ.pop("WANDB_SERVICE", None)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it looks for a host even offline
    os.environ.setdefault("WANDB_SILENT", "true")  # the settings of its `init` come too late for its login
    for kind, below in FOLDERS.items():
        if not _can_be_written(os.environ.get(f"WANDB_{kind}_DIR") or _below_home(kind, below)):
            os.environ[f"WANDB_{kind}_DIR"] = os.path.join(tempfile.gettempdir(), f"wandb-{kind.lower()}")
    if os.path.expanduser("~") == "~":  # a container's user without an entry in passwd
        os.environ.setdefault("WANDB_CONFIG_DIR", os.path.join(tempfile.gettempdir(), "wandb-config"))


def _below_home(kind: str, below: str) -> str:
    base = os.environ.get(f"XDG_{kind}_HOME") or (os.environ.get("HOME") and os.path.join(os.environ["HOME"], below))
    return os.path.join(base, "wandb") if base else ""


def _can_be_written(folder: str) -> bool:
    """Whether W&B can have its files there; makes the folder, as W&B does."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def one_line(error: BaseException) -> str:
    """An error in one line, without a key or a password that it might quote."""
    text = without_secrets(" ".join(str(error).split()) or type(error).__name__)
    secret = key()
    return (text.replace(secret, "***") if len(secret) > 7 else text)[:LONGEST]


def server() -> str:
    """The address of the W&B server."""
    return (_setting("base_url") or "https://api.wandb.ai").rstrip("/")


def key() -> str:
    """The key: from WANDB_API_KEY, W&B's settings, or the host's entry in the netrc file; '' if there is none."""
    if configured := _setting("api_key"):
        return configured
    host = urllib.parse.urlparse(server()).hostname or ""
    named = os.environ.get("NETRC")
    for file in [Path(named).expanduser()] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if entry := netrc.netrc(str(file)).authenticators(host):
                return entry[2] or ""
        except (OSError, netrc.NetrcParseError):
            continue
    return ""


def _setting(name: str) -> str:
    """The value of W&B's environment variable, or else of the files that `wandb offline` and `wandb login` write."""
    if value := os.environ.get(f"WANDB_{name.upper()}"):
        return value
    folders = (os.environ.get("WANDB_DIR", ".") + "/wandb", os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb"))
    for folder in folders:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(Path(folder).expanduser() / "settings")
        except (configparser.Error, UnicodeDecodeError):
            continue
        if value := parser.get("default", name, fallback=""):
            return value
    return ""
