"""What the examples of two classes are measured by."""

from typing import Any

from orchestration.examples.fresh import Rows


def binary_metrics(model: Any, held_out: Rows, positive: str) -> dict[str, float]:
    """Accuracy, F1 of the positive class and, where both classes are there, ROC AUC."""
    from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

    labels, predicted = held_out.labels, model.predict(held_out.features)
    found = {
        "accuracy": float(accuracy_score(labels, predicted)),
        "f1": float(f1_score(labels, predicted, pos_label=positive, zero_division=0.0)),
    }
    if labels.nunique() == 2:
        score = model.predict_proba(held_out.features)[:, list(model.classes_).index(positive)]
        found["roc_auc"] = float(roc_auc_score(labels == positive, score))
    return found
