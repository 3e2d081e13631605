"""What W&B shows of a finished run, made with its package: templates, confusion matrix, most wrong samples."""

from typing import Any

from torch import nn

from src import gallery
from src.data.dataset import Split
from src.evaluation import Metrics
from src.models.logistic import CLASSES, SHAPE
from src.tracking.wandb_uploader import Pictures

WRONG = 20  # rows in the table of the most wrong samples


def pictures(module: nn.Module, test: Split, metrics: Metrics, loss: str) -> Pictures:
    """What W&B shows of a finished run, made with its package: templates, confusion matrix, most wrong digits."""

    def make(wandb: Any) -> dict[str, Any]:
        rows = [[truth, *row] for truth, row in enumerate(metrics.confusion)]
        shown: dict[str, Any] = {
            "confusion": wandb.Table(columns=["truth", *(f"guess {digit}" for digit in range(CLASSES))], data=rows),
            "most_wrong": wandb.Table(
                columns=["image", "index", "truth", "guess", "probability"],
                data=[
                    [wandb.Image(_picture(test, wrong.index)), wrong.index, wrong.truth, wrong.guess, wrong.probability]
                    for wrong in gallery.most_wrong(module, test, loss, WRONG)
                ],
            ),
        }
        if len(weights := gallery.templates(module)):
            grey = gallery.grey(weights).numpy()
            shown["templates"] = [wandb.Image(picture, caption=str(digit)) for digit, picture in enumerate(grey)]
        return shown

    return make


def _picture(test: Split, index: int) -> Any:
    """An image as W&B takes it: (height, width), or with its channels last."""
    picture = test.images[index].view(SHAPE).cpu()
    return (picture.movedim(0, -1) if picture.dim() == 3 else picture).numpy()
