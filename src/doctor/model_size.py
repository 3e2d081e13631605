"""How many parameters the job's model has: what the exchange and the checkpoints are sized by."""

from src import config, models
from src.data import kinds
from src.schema import Config


def parameters(settings: Config) -> int:
    """The number of parameters. Raises UserError for a model's file that breaks the contract."""
    data, kind = settings.data, kinds.kind_of(settings.data)
    if kinds.missing(data, kind.TRAIN):
        spec = kind.assumed(data)
    else:
        _, spec = kind.train(kinds.folder(data), data)
    model = models.load(config.model_path(settings.model), settings.model.settings)
    return sum(parameter.numel() for parameter in model.build(spec, settings.train.seed).parameters())
