"""What provenance.json says of the code, the hosts and the data."""

from pathlib import Path
from typing import Any

import pytest

from src.run import provenance


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ("", None),
        ("94afacd8", {"commit": "94afacd8", "dirty": False}),
        ("94afacd8-dirty", {"commit": "94afacd8", "dirty": True}),
    ],
)
def test_provenance_knows_the_commit_without_git(
    told: str, known: dict[str, Any] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("IMAGE_COMMIT", told)
    assert provenance._git() == known
