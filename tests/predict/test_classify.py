"""A file's bytes as the input of any model, or one line that says why not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from src.errors import ModelFailed, UserError
from src.predict import classify
from src.predict.picture import BadInput
from src.run import trained
from src.run.trained import Trained
from tests.helpers.commands import command
from tests.helpers.images import encoded


@pytest.fixture
def colours(strangers: Path) -> Trained:
    """A model of colour pictures (3, 12, 12) in four classes."""
    return classify.load(strangers / "colours" / "runs" / "colours")


def test_a_picture_is_resized_to_the_shape_of_the_data(colours: Trained) -> None:
    for colour, label in (((200, 30, 30), 0), ((30, 200, 30), 1), ((30, 30, 200), 2), ((200, 200, 30), 3)):
        data = encoded(Image.new("RGB", (40, 31), colour))
        inputs, preparation, _ = classify.inputs_of(colours, "a.png", data)
        assert (inputs.shape, inputs.dtype, preparation) == ((1, 3, 12, 12), torch.uint8, "resized to 12 x 12, RGB")
        assert torch.equal(inputs[0, :, 5, 5], torch.tensor(colour, dtype=torch.uint8))
        result = classify.classify(colours, "a.png", data)
        assert result["class"] == label
        assert classify.line(result).startswith(f"a.png: {label} (")
    with pytest.raises(BadInput, match=r"b\.png: is no image"):
        classify.inputs_of(colours, "b.png", b"text")


@pytest.mark.parametrize("name", ["tokens", "outputs"])
def test_a_model_without_classes_is_refused_in_one_line(name: str, strangers: Path) -> None:
    run = strangers / name / "runs" / name
    done = command("src.predict", str(run), "x.png")
    assert (done.returncode, done.stdout) == (2, "")
    text = f"{run}: {name}.py gives no probability for each class of its data; try python -m src.evaluate {run}"
    assert done.stderr == f"error: {text}\n"


def with_prepare(run: Trained, monkeypatch: pytest.MonkeyPatch, prepare: Any) -> None:
    monkeypatch.setattr(run.model.module, "prepare", prepare, raising=False)


def test_prepare_of_the_model_s_file_makes_the_input(colours: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(thing: bytes, data: Any) -> torch.Tensor:
        if len(thing) != 3:
            raise ValueError(f"{len(thing)} bytes are no colour")
        return torch.tensor(list(thing), dtype=data.dtype)[None, :, None, None].expand(1, *data.shape)

    with_prepare(colours, monkeypatch, prepare)
    assert classify.classify(colours, "x", bytes((30, 30, 200)))["class"] == 2
    with pytest.raises(BadInput, match=r"^x: 2 bytes are no colour$"):
        classify.classify(colours, "x", b"ab")


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (torch.zeros(3, 12, 12, dtype=torch.uint8), r"\(3, 12, 12\) of torch.uint8"),
        (torch.zeros(1, 3, 12, 12), r"\(1, 3, 12, 12\) of torch.float32"),
        (None, "NoneType"),
    ],
)
def test_a_prepare_that_breaks_the_contract_is_named(
    result: object, kind: str, colours: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_prepare(colours, monkeypatch, lambda thing, data: result)
    with pytest.raises(UserError, match=rf"prepare: returned {kind}; expected a tensor \(1, 3, 12, 12\)"):
        classify.classify(colours, "x", b"")


def test_a_fault_in_prepare_is_the_model_s(colours: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    code = compile("def prepare(thing, data):\n    return thing.nothing", str(colours.model.path), "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    with_prepare(colours, monkeypatch, names["prepare"])
    with pytest.raises(ModelFailed, match="AttributeError"):
        classify.classify(colours, "x", b"")


def test_a_model_of_mnist_s_shape_sees_mnist_s_preparation(best: Path) -> None:
    run = trained.load(best)
    canvas = Image.new("L", (100, 60))
    canvas.paste(255, (10, 10, 16, 50))
    inputs, preparation, _ = classify.inputs_of(run, "x", encoded(canvas))
    assert (inputs.shape, preparation) == ((1, 28, 28), "light on dark")
    assert int(inputs[0, :, 13:16].sum()) == int(inputs.sum()) > 0  # centred
