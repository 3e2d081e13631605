"""Any picture of a digit: prepared as MNIST's, and named when it cannot be."""

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageOps

from src import data, picture, trained
from src.evaluate import predict
from tests.ranks import ROOT, good_job


@pytest.fixture(scope="session")
def best(mnist: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with good weights: six epochs of softmax."""
    settings = ("train.loss=cross_entropy", "optim.lr=0.3", "optim.schedule=cosine", "train.epochs=6", "run.name=best")
    return good_job(1, tmp_path_factory.mktemp("best"), f"data.root={mnist}", *settings).run


def command(*arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        timeout=120,
    )


def encoded(image: Any, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def paper(image: Any) -> Any:
    """A photograph of the digit in dark ink on shaded, grainy paper."""
    random = torch.Generator().manual_seed(0)
    pixels = bytearray(ImageOps.pad(image, (200, 260), Image.Resampling.BICUBIC).tobytes())
    large = torch.frombuffer(pixels, dtype=torch.uint8).view(260, 200)
    shade = torch.linspace(0.95, 0.6, 200) * torch.linspace(1, 0.85, 260)[:, None]
    grain = 0.015 * torch.randn(260, 200, generator=random)
    values = ((shade * (1 - 0.8 * large / 255) + grain).clamp(0, 1) * 255).to(torch.uint8)
    return Image.frombytes("L", (200, 260), values.numpy().tobytes())


def moved(image: Any) -> Any:
    canvas = Image.new("L", (300, 200))
    canvas.paste(image.resize((112, 112), Image.Resampling.BICUBIC), (150, 20))
    return canvas


def see_through(image: Any) -> Any:
    large = image.resize((140, 140), Image.Resampling.BICUBIC)
    black = Image.new("RGBA", large.size, (0, 0, 0, 0))
    black.putalpha(large)
    return black


VARIANTS: dict[str, Callable[[Any], bytes]] = {
    "as it is": encoded,
    "enlarged": lambda image: encoded(image.resize((280, 280), Image.Resampling.BICUBIC)),
    "inverted": lambda image: encoded(ImageOps.invert(image)),
    "large and inverted": lambda image: encoded(ImageOps.invert(image.resize((600, 600), Image.Resampling.BICUBIC))),
    "off centre": lambda image: encoded(moved(image)),
    "JPEG": lambda image: encoded(image.resize((280, 280)).convert("RGB"), "JPEG", quality=80),
    "RGBA": lambda image: encoded(see_through(image)),
    "GIF": lambda image: encoded(image.resize((84, 84), Image.Resampling.BICUBIC).convert("P"), "GIF"),
}


@pytest.mark.parametrize(("variant", "least"), [*((name, 0.95) for name in VARIANTS), ("on paper", 0.85)])
def test_pictures_agree_with_evaluate(variant: str, least: float, best: Path) -> None:
    run = trained.load(best)
    test = data._split(data.folder(run.settings.data), *data.TEST)
    right = (predict(run.module, test.images[:300]).argmax(1) == test.labels[:300]).nonzero().flatten().tolist()
    make = VARIANTS.get(variant, lambda image: encoded(paper(image)))
    agreed = 0
    for index in right:
        image = Image.frombytes("L", (28, 28), bytes(test.images[index].tolist()))
        prepared = picture.read("x", make(image))
        agreed += int(predict(run.module, prepared.pixels.view(1, -1)).argmax()) == int(test.labels[index])
    assert agreed >= least * len(right), f"{agreed} of {len(right)}"


def test_mnist_s_own_pictures_stay_as_they_are(best: Path) -> None:
    test = data._split(data.folder(trained.load(best).settings.data), *data.TEST)
    for index in range(100):
        prepared = picture.read("x", VARIANTS["as it is"](Image.frombytes("L", (28, 28), bytes(test.images[index]))))
        assert torch.equal(prepared.pixels.flatten(), test.images[index])


def test_it_says_what_it_took(best: Path, tmp_path: Path) -> None:
    image = Image.new("L", (100, 100))
    image.paste(255, (45, 10, 55, 90))
    (tmp_path / "a.png").write_bytes(encoded(image))
    (tmp_path / "b.jpg").write_bytes(encoded(ImageOps.invert(image), "JPEG"))
    done = command("src.predict", str(best), str(tmp_path))
    first, second = done.stdout.decode().splitlines()
    assert done.returncode == 0, done.stderr
    assert first.startswith(f"{tmp_path}/a.png: 1 (")
    assert first.endswith("[light on dark]")
    assert second.endswith("[dark on light]")
    (row,) = command("src.predict", str(best), "-", "--json", stdin=encoded(image)).stdout.splitlines()
    assert json.loads(row)["digit"] == 1
    assert len(command("src.predict", str(best), f"{tmp_path}/*.png").stdout.splitlines()) == 1


def test_bad_pictures_are_named_and_the_others_go_on(best: Path, tmp_path: Path) -> None:
    image = Image.new("L", (60, 60))
    image.paste(255, (28, 5, 33, 55))
    good = encoded(image)
    bad = {
        "text.png": (b"hello", "is no image"),
        "empty.png": (b"", "is empty"),
        "blank.png": (encoded(Image.new("L", (50, 50), 255)), "one colour"),
        "cut.png": (good[: len(good) // 2], "is damaged"),
        "huge.png": (encoded(Image.new("1", (10_000, 5_000))), "make it smaller"),
    }
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "zgood.png").write_bytes(good)
    done = command("src.predict", str(best), str(tmp_path), str(tmp_path / "none.png"), str(tmp_path / "*.tif"))
    printed = done.stderr.decode()
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 1
    for name, (_, said) in bad.items():
        assert any(name in line and said in line for line in printed.splitlines()), printed
    assert "none.png: cannot be read (No such file" in printed
    assert "*.tif: nothing there" in printed
    assert "Traceback" not in printed


def test_a_run_without_weights_says_so(tmp_path: Path, best: Path) -> None:
    done = command("src.predict", str(tmp_path), "x.png")
    assert done.returncode == 2
    assert b"is no run" in done.stderr
    (tmp_path / "config.yaml").write_text((best / "config.yaml").read_text())
    done = command("src.predict", str(tmp_path), "x.png")
    assert done.returncode == 2
    assert b"has no weights yet" in done.stderr


def test_evaluate_prints_what_training_prints(best: Path) -> None:
    before = sorted(best.rglob("*"))
    done = command("src.evaluate", str(best))
    status = json.loads((best / "status.json").read_text())
    assert f"test  {status['correct']}/10000 = " in done.stdout.decode(), done.stderr
    assert sorted(best.rglob("*")) == before
    done = command("src.evaluate", str(best), "--write")
    assert json.loads((best / "evaluation-mnist.json").read_text())["correct"] == status["correct"]


def test_evaluate_on_other_data(best: Path, small: str) -> None:
    done = command("src.evaluate", str(best), "data.name=idx", f"data.root={small}")
    assert b"on idx\ntest  " in done.stdout
    done = command("src.evaluate", str(best), f"data.root={best}", "data.mirrors=[]", "data.name=idx")
    assert done.returncode == 2
    assert b"put your files into" in done.stderr


@pytest.mark.parametrize(("to", "package"), [("onnx", "onnxruntime"), ("safetensors", "safetensors")])
def test_exports_predict_as_torch_does(to: str, package: str, best: Path, tmp_path: Path) -> None:
    pytest.importorskip(package)
    file = tmp_path / f"model.{to}"
    done = command("src.export", str(best), "--to", to, "--file", str(file))
    assert done.returncode == 0, done.stderr
    assert b"10000/10000 predictions as torch's" in done.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]


def test_an_export_that_cannot_be_written_says_so(best: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    done = command("src.export", str(best), "--to", "safetensors", "--file", str(tmp_path / "no" / "model"))
    assert done.returncode == 2
    assert b"cannot be written" in done.stderr


def test_status_lists_the_runs(best: Path, tmp_path: Path) -> None:
    done = command("src.status", str(best.parent))
    head, row = done.stdout.decode().splitlines()
    assert head.split() == ["run", "state", "step", "accuracy", "data", "ranks", "last", "event", "why"]
    assert row.split()[:3] == ["best", "finished", "5628"]
    assert b"no runs yet" in command("src.status", str(tmp_path)).stdout
    done = command("src.status", str(tmp_path / "none"))
    assert done.returncode == 2
    assert b"no such folder" in done.stderr
