"""The churn example as a network: 10 → 64 → 32 → 1, on the same data as the trees."""

from typing import Any

import numpy as np

from orchestration.examples.churn import CATEGORIES, NUMBERS, SERVICE, by_time
from orchestration.examples.feature_data import CHURN, churn_labels
from orchestration.examples.fresh import Split, split
from orchestration.examples.metrics import binary_metrics
from orchestration.examples.point_in_time import ready_sources, training_rows
from orchestration.examples.pytorch_flavor import TorchClassifier, save_pytorch
from orchestration.examples.registration import Trained, log_and_register
from orchestration.training import RegisteredVersion, Target, TrainingError

EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY, DROPOUT = 40, 64, 3e-3, 1e-3, 0.2


def train(target: Target) -> RegisteredVersion:
    """On the rows of `churn.train`, split as there."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise TrainingError(
            "a PyTorch model needs torch, which is not installed here: "
            ".venv/bin/uv pip install -e '.[torch]'"
        ) from error
    frame = training_rows(SERVICE, churn_labels(ready_sources()))
    return log_and_register(target, fit(target.next_version, split(target, *by_time(frame))))


def fit(seed: int, rows: Split) -> Trained:
    """The trained network. The same seed and rows give the same weights."""
    labels = rows.fit.labels.to_numpy(dtype=str)
    classes = np.unique(labels)
    table = preprocessing().fit(rows.fit.features)
    weights = np.ones(len(labels)) if rows.weights is None else rows.weights
    module = fit_network(
        np.asarray(table.transform(rows.fit.features), dtype=np.float32),
        (labels == classes[1]).astype(np.float32),
        (weights / weights.mean()).astype(np.float32),
        seed,
    )
    model = TorchClassifier(module, table, classes)
    return Trained(
        estimator=model,
        features=rows.fit.features,
        labels=rows.fit.labels,
        metrics=binary_metrics(model, rows.held_out, CHURN),
        params={"classifier": "10-64-32-1", "epochs": EPOCHS, "random_state": seed},
        held_out=(rows.held_out.features, rows.held_out.labels),
        reference=rows.reference,
        save=save_pytorch,
    )


def preprocessing() -> Any:
    """Ten numbers around 0; a region or category that training has not seen counts as -1."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder, StandardScaler

    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    return ColumnTransformer(
        [
            ("numbers", StandardScaler(), list(NUMBERS)),
            ("categories", make_pipeline(encoder, StandardScaler()), list(CATEGORIES)),
        ]
    )


def network() -> Any:
    """10 → 64 → 32 → 1 with dropout; the answer is a probability."""
    from torch import nn

    return nn.Sequential(
        nn.Linear(len(NUMBERS) + len(CATEGORIES), 64),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(64, 32),
        nn.ReLU(),
        nn.Dropout(DROPOUT),
        nn.Linear(32, 1),
        nn.Sigmoid(),
    )


def fit_network(matrix: Any, positive: Any, weights: Any, seed: int) -> Any:
    """A network in evaluation mode, by Adam on the weighted cross-entropy. All arrays float32."""
    import torch

    x, y, w = (torch.from_numpy(array) for array in (matrix, positive, weights))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = network().train()
        adam = torch.optim.Adam(module.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(x)).split(BATCH):
                adam.zero_grad()
                answers = module(x[batch])[:, 0]
                loss = torch.nn.functional.binary_cross_entropy(answers, y[batch], w[batch])
                loss.backward()
                adam.step()
    return module.eval()
