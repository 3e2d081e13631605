"""The pinned requirements fit pyproject.toml, and install from any index."""

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable

import pytest
from packaging.requirements import Requirement

from tests.helpers.ranks import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
USER = PROJECT["project"]["dependencies"]
EXTRAS, GROUPS = PROJECT["project"]["optional-dependencies"], PROJECT["dependency-groups"]
LOCKS = {
    "requirements.lock": USER,
    "requirements-export.lock": USER + EXTRAS["export"],
    "requirements-import.lock": USER + EXTRAS["import"],
    "requirements-dev.lock": USER + EXTRAS["export"] + EXTRAS["import"] + EXTRAS["mirror"] + GROUPS["dev"],
    "requirements-bench.lock": USER + GROUPS["bench"],
}


def pins(lock: str) -> dict[str, tuple[str, str]]:
    """Of each pinned package, its version and the rest of its entry (hashes, and who wants it)."""
    text = (ROOT / lock).read_text()
    entries = re.findall(r"^([\w.-]+)==(\S+)(.*?)(?=^[\w.-]+==|\Z)", text, re.MULTILINE | re.DOTALL)
    return {name: (version, rest) for name, version, rest in entries}


def names(requirements: Iterable[str]) -> set[str]:
    return {re.sub(r"[-_.]+", "-", Requirement(line).name).lower() for line in requirements}


@pytest.mark.parametrize(("lock", "wanted"), LOCKS.items())
def test_a_lock_fits_the_project(lock: str, wanted: list[str]) -> None:
    found = pins(lock)
    for line in wanted:
        requirement = Requirement(line)
        version = found[requirement.name.lower()][0]
        assert requirement.specifier.contains(version, prereleases=True), f"{lock}: {line}: run `make lock`"
    direct = {name for name, (_, rest) in found.items() if re.search(r"# +(via )?distributed-training-job", rest)}
    assert direct == names(wanted), f"{lock} was made for other requirements: run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_hashes_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert "://" not in text
    assert all("--hash=sha256:" in rest for _, rest in pins(lock).values())


@pytest.mark.parametrize("lock", LOCKS)
def test_the_locks_agree(lock: str) -> None:
    base = {name: version for name, (version, _) in pins("requirements.lock").items()}
    assert {name: version for name, (version, _) in pins(lock).items() if name in base} == base


def test_torch_and_torchvision_are_a_pair() -> None:
    found = {name: version for name, (version, _) in pins("requirements.lock").items()}
    assert (importlib.metadata.version("torch").partition("+")[0], importlib.metadata.version("torchvision")) == (
        found["torch"],
        found["torchvision"],
    )
    wanted = [Requirement(line) for line in importlib.metadata.requires("torchvision") or []]
    assert all(line.specifier.contains(found["torch"]) for line in wanted if line.name == "torch")
    assert "+" not in found["torch"] + found["torchvision"], "the plain wheels, not those of one accelerator"
