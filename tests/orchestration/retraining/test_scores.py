import numpy as np
import pytest

from orchestration.monitoring.scores import ScoreError, as_text, score

TRUTH, GIVEN = ["no", "yes", "yes", "no"], ["no", "yes", "no", "no"]
PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.7, 0.3]])
CLASSES = ("no", "yes")


def test_the_metrics_are_those_of_scikit_learn() -> None:
    assert score("accuracy", TRUTH, GIVEN) == 0.75
    assert score("f1", TRUTH, GIVEN, classes=CLASSES) == pytest.approx(2 / 3)
    assert score("roc_auc", TRUTH, GIVEN, PROBABILITIES, CLASSES) == 1.0
    assert score("roc_auc", TRUTH, GIVEN, PROBABILITIES[:, ::-1], CLASSES) == 0.0
    assert score("rmse", [1.0, 2.0], [1.0, 4.0]) == pytest.approx(np.sqrt(2))


def test_a_class_that_never_came_up_does_not_count_for_roc_auc() -> None:
    probabilities = np.column_stack([PROBABILITIES, np.zeros(4)])
    assert score("roc_auc", TRUTH, GIVEN, probabilities, ("no", "yes", "maybe")) == 1.0


def test_labels_are_the_same_whichever_type_a_file_has_them_in() -> None:
    assert [as_text(value) for value in (1, 1.0, "1", np.int64(1), 1.5)] == [*["1"] * 4, "1.5"]
    assert score("accuracy", ["1", "0"], [1, 0]) == score("accuracy", [1.0, 0.0], [1, 0]) == 1.0


def test_roc_auc_without_probabilities_or_with_one_class_is_an_error() -> None:
    with pytest.raises(ScoreError, match="probabilities of all classes"):
        score("roc_auc", TRUTH, GIVEN, None, CLASSES)
    with pytest.raises(ScoreError, match="more than one class"):
        score("roc_auc", ["no"] * 4, GIVEN, PROBABILITIES, CLASSES)
