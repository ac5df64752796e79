import dagster as dg
import pytest

from bentos.model_server.certificate import CertificateError
from deploy.events import LedgerConflictError
from deploy.keys import KeyStoreError
from deploy.versions import MissingFileError
from orchestration.defs.lifecycle.failures import one_sentence


@pytest.mark.parametrize(
    "error",
    [CertificateError("no proof"), LedgerConflictError("no proof"), KeyStoreError("no proof")],
)
def test_what_a_user_can_do_something_about_is_its_sentence_and_is_not_retried(
    error: Exception,
) -> None:
    with pytest.raises(dg.Failure) as caught, one_sentence():
        raise error
    assert caught.value.description == "no proof"
    assert caught.value.allow_retries is False
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (FileNotFoundError(2, "No such file", "/a/b"), "No such file (/a/b)"),
        (OSError("disk is gone"), "disk is gone"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_what_the_machine_refuses_names_the_file(error: OSError, sentence: str) -> None:
    with pytest.raises(dg.Failure) as caught, one_sentence():
        raise error
    assert caught.value.description == sentence


def test_a_missing_step_is_said_in_its_own_words() -> None:
    with pytest.raises(dg.Failure) as caught, one_sentence():
        raise MissingFileError("/v/iris/1/bento.json is missing: materialize bento first")
    assert caught.value.description == "/v/iris/1/bento.json is missing: materialize bento first"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(KeyError), one_sentence():
        raise KeyError("x")
