"""W&B's mode, key, project and run id, from the settings, W&B's environment variables and its settings files.

Nothing here imports wandb or asks a server.
"""

import configparser
import netrc
import os
import secrets
import urllib.parse
from pathlib import Path
from typing import Any

from src.addresses import without_secrets, without_users
from src.schema import Track

MODES = {"online": "online", "run": "online", "offline": "offline", "dryrun": "offline", "disabled": "disabled"}
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


def run_id(path: Path) -> str:
    """The run's one id at W&B, made and stored before W&B starts; a sweep's agent decides it by WANDB_RUN_ID."""
    file = path / "wandb" / "id"
    file.parent.mkdir(exist_ok=True)
    stored = file.read_text().strip() if file.exists() else ""
    wanted = os.environ.get("WANDB_RUN_ID") or stored or secrets.token_hex(4)
    if wanted != stored:
        file.write_text(wanted + "\n")
    return wanted


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
