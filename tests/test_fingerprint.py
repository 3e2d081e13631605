"""The fingerprint covers what shapes the weights: settings, and the code of the model."""

from src import config, fingerprint


def test_the_fingerprint_tells_results_apart_and_nothing_else() -> None:
    base = fingerprint.fingerprint(config.parse([]))
    for same in ("train.epochs=3", "log.every=5", "train.device=cpu", "track.notes=x", "run.root=r", "train.shards=4"):
        assert fingerprint.fingerprint(config.parse([same])) == base, same
    for other in ("optim.lr=0.1", "train.seed=1", "data.name=digits", "train.sync=bitwise", "optim.schedule=linear"):
        assert fingerprint.fingerprint(config.parse([other])) != base, other
    cosine = ["optim.schedule=cosine"]
    assert fingerprint.fingerprint(config.parse(cosine)) != fingerprint.fingerprint(
        config.parse([*cosine, "train.epochs=3"])
    )


def test_what_shapes_the_weights() -> None:
    """A setting that a run may be continued with otherwise must not be among them, and the other way round."""
    shaping = fingerprint.shaping(config.parse([]))
    assert {"data.name", "train.seed", "train.sync", "train.global_batch_size", "optim.lr"} <= shaping.keys()
    assert not {"train.epochs", "train.device", "log.every", "run.name", "run.root", "track.notes"} & shaping.keys()


def test_the_length_of_a_block_shapes_the_weights_of_a_text_alone() -> None:
    assert "data.block" not in fingerprint.shaping(config.parse(["data.block=32"]))
    for name in ("text", "sums"):
        chosen = [f"data.name={name}"]
        longer = fingerprint.fingerprint(config.parse([*chosen, "data.block=32"]))
        assert longer != fingerprint.fingerprint(config.parse(chosen))


def test_a_shuffle_in_blocks_shapes_the_weights_and_the_default_is_no_part() -> None:
    assert "data.shuffle" not in fingerprint.shaping(config.parse([])), "runs from before it was there keep their names"
    assert fingerprint.shaping(config.parse(["data.shuffle=blocks"]))["data.shuffle"] == "blocks"


def test_the_size_of_pictures_shapes_the_weights_of_a_folder_alone() -> None:
    assert "data.image_size" not in fingerprint.shaping(config.parse(["data.image_size=32"]))
    chosen = ["data.name=folder"]
    larger = fingerprint.fingerprint(config.parse([*chosen, "data.image_size=32"]))
    assert larger != fingerprint.fingerprint(config.parse(chosen))
