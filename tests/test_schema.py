"""Every setting has a meaning and valid limits; the fingerprint covers those that shape the weights."""

from src import config, schema


def test_the_fingerprint_tells_results_apart_and_nothing_else() -> None:
    base = schema.fingerprint(config.parse([]))
    for same in ("train.epochs=3", "log.every=5", "train.device=cpu", "track.notes=x", "run.root=r", "train.shards=4"):
        assert schema.fingerprint(config.parse([same])) == base, same
    for other in ("optim.lr=0.1", "train.seed=1", "data.name=digits", "train.sync=bitwise", "optim.schedule=linear"):
        assert schema.fingerprint(config.parse([other])) != base, other
    cosine = ["optim.schedule=cosine"]
    assert schema.fingerprint(config.parse(cosine)) != schema.fingerprint(config.parse([*cosine, "train.epochs=3"]))


def test_every_setting_has_a_meaning_and_a_default_within_its_limits() -> None:
    for name, field in schema.KEYS.items():
        meaning, limits = field.metadata["meaning"], field.metadata
        default = schema.value_of(schema.Config(), name)
        assert meaning.strip() == meaning != "", name
        assert "choices" not in limits or default in limits["choices"], name
        assert "minimum" not in limits or default >= limits["minimum"], name
        assert "above" not in limits or default > limits["above"], name


def test_what_shapes_the_weights() -> None:
    """A setting that a run may be continued with otherwise must not be among them, and the other way round."""
    shaping = schema.shaping(schema.Config())
    assert {"data.name", "train.seed", "train.sync", "train.global_batch_size", "optim.lr"} <= shaping.keys()
    assert not {"train.epochs", "train.device", "log.every", "run.name", "run.root", "track.notes"} & shaping.keys()
