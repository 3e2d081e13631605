"""scikit-learn's SGDClassifier: ten one-against-all logistic regressions, sample by sample, in C."""

import numpy as np
from sklearn.linear_model import SGDClassifier

from tests.bench.common import dataset, leave, options, report, stopwatch


def main() -> None:
    """Train, evaluate, print a line of JSON."""
    chosen = options()
    train, test = dataset(chosen.root, True), dataset(chosen.root, False)
    images = train.data.reshape(-1, 784).numpy().astype(np.float32) / 255
    model = SGDClassifier(
        loss="log_loss", learning_rate="constant", eta0=0.01, alpha=0, penalty=None, max_iter=chosen.epochs, tol=None
    )
    with stopwatch() as clock:
        model.fit(images, train.targets.numpy())
    unseen = test.data.reshape(-1, 784).numpy() / 255
    correct = int((model.predict(unseen) == test.targets.numpy()).sum())
    report(chosen.epochs * len(images) / clock.seconds, correct)


if __name__ == "__main__":
    main()
    leave()
