"""docs/report.png, the picture in the README: python -m tests.helpers.picture [key=value ...]

Trains configs/best.yaml in a temporary folder, for which MNIST must be in data/, and photographs its report.html.
"""

import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from tests.helpers.pages import CHROMIUM, FLAGS
from tests.helpers.ranks import ROOT

PICTURE = ROOT / "docs" / "report.png"
MOST_BYTES = 150_000
VIEW: Any = {"width": 1000, "height": 1120}
COLOURS = 64  # the page is flat: more are not seen


def main() -> None:
    """Train, and take the picture."""
    with tempfile.TemporaryDirectory(prefix="picture-") as folder:
        settings = ["config=configs/best.yaml", "run.name=best", f"run.root={folder}", "track.wandb=disabled"]
        command = [sys.executable, "-m", "src.train", *settings, "data.fallback=none", *sys.argv[1:]]
        subprocess.run(command, cwd=ROOT, check=True)
        take(Path(folder) / "best" / "report.html", PICTURE)
    print(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


def take(report: Path, to: Path) -> None:
    """Photograph the top of a report. Raises SystemExit where the picture is too large for a README."""
    from playwright import sync_api  # only here: the test of the picture's size needs no browser

    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(viewport=VIEW, offline=True, color_scheme="light").new_page()
        page.goto(report.resolve().as_uri())
        page.wait_for_load_state("networkidle")
        page.add_style_tag(content="#command { display: none }")  # it names the temporary folder
        pixels = page.screenshot()
        browser.close()
    small, picture = io.BytesIO(), Image.open(io.BytesIO(pixels)).convert("RGB")
    picture.quantize(COLOURS).save(small, "PNG", optimize=True)
    if small.tell() > MOST_BYTES:
        raise SystemExit(f"{to}: would have {small.tell():,} bytes, more than {MOST_BYTES:,}; change VIEW or COLOURS")
    to.write_bytes(small.getvalue())


if __name__ == "__main__":
    main()
