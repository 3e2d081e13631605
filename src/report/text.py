"""What the report says of a model of text: perplexity and bits per byte, from its loss."""

import math
from typing import Any

from src.models import COUNT
from src.run.results import Description, averaged
from src.schema import Config

Facts = dict[str, Any]
NAMES = ("text", "sums")  # of data that are text as bytes
LOSS = "loss"
UNFIT = "Perplexity and what the model continues need text as data (data.name=text or sums)."
NO_LOSS = 'Perplexity needs a metric `loss` for each byte, such as METRICS = {"loss": "loss / tokens"}.'


def is_text(settings: Config) -> bool:
    """Whether the data are text as bytes."""
    return settings.data.name in NAMES


def of(described: Description, result: Facts | None) -> Facts:
    """Perplexity and bits per byte of the result, and of its averaged weights; `why` there is none, else ''."""
    if result is None:
        return {"raw": None, "averaged": None, "why": "Not evaluated yet."}
    if described.divisors.get(LOSS, COUNT) == COUNT:
        return {"raw": None, "averaged": None, "why": NO_LOSS}
    raw, average = (per_byte(described.value(LOSS, line)) for line in (result, averaged(result)))
    return {"raw": raw, "averaged": average, "why": "" if raw else "The loss is not finite."}


def per_byte(loss: float | None) -> Facts | None:
    """exp(loss) and loss / ln 2, of a mean loss in nats; None for none."""
    if loss is None or loss > math.log(1e300):
        return None
    return {"perplexity": math.exp(loss), "bits_per_byte": loss / math.log(2)}
