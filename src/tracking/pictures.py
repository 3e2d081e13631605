"""What W&B displays of a finished run, made with its package: templates, confusion matrix, most wrong samples."""

from typing import Any

from torch import Tensor, nn

from src import gallery
from src.data.splits import Spec, Split
from src.evaluation.metrics import Metrics
from src.models import Model
from src.run import results
from src.tracking.wandb_uploader import Pictures

WRONG = 20  # rows in the table of the most wrong samples
LARGEST_CONFUSION = 100  # classes of a confusion matrix that W&B is sent
MOST_TEMPLATES = 100


def pictures(model: Model, module: nn.Module, spec: Spec, test: Split, metrics: Metrics) -> Pictures:
    """Makes what fits the model and its data, once W&B is there."""

    def make(wandb: Any) -> dict[str, Any]:
        content: dict[str, Any] = {}
        confusion = results.square(metrics.tables.get("confusion"))
        if confusion and len(confusion) <= LARGEST_CONFUSION:
            columns = ["truth", *(f"guess {_name(spec, label)}" for label in range(len(confusion)))]
            rows = [[_name(spec, truth), *row] for truth, row in enumerate(confusion)]
            content["confusion"] = wandb.Table(columns=columns, data=rows)
        if gallery.are_pictures(spec) and gallery.classifies(model, module, spec):
            content["most_wrong"] = wandb.Table(
                columns=["image", "index", "truth", "guess", "probability"],
                data=[
                    [
                        _image(wandb, test.inputs[row.index]),
                        row.index,
                        _name(spec, row.truth),
                        _name(spec, row.guess),
                        row.probability,
                    ]
                    for row in gallery.most_wrong(model, module, test, WRONG)
                ],
            )
        if fit := gallery.linear(model, module, spec):
            grey = gallery.grey(gallery.templates(fit, spec)[:MOST_TEMPLATES]).numpy()
            content["templates"] = [
                wandb.Image(picture, caption=spec.name(label)) for label, picture in enumerate(grey)
            ]
        return content

    return make


def _name(spec: Spec, label: int) -> str | int:
    """What a class is called; its number where the data has no names, which a table sorts as numbers."""
    return spec.name(label) if spec.names else label


def _image(wandb: Any, picture: Tensor) -> Any:
    """(height, width) or (channels, height, width) bytes as W&B takes them: the channels last."""
    picture = picture.cpu()
    return wandb.Image((picture.movedim(0, -1) if picture.dim() == 3 else picture).numpy())
