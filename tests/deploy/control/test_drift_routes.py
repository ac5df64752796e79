"""`/v1/drift`: what was found, and its page for a browser."""

import base64

import msgspec
import pytest

from deploy.drift_result import ColumnDrift, DriftReport, DriftResult, Note, report_folder
from deploy.keys import KeyStore
from tests.deploy.control.controls import Running
from tests.deploy.control.test_gate import is_problem
from tests.deploy.found import finding

PAGE = b"<!DOCTYPE html><html><body>drift</body></html>"
REPORT = DriftReport(
    finding=finding("failed"),
    result=DriftResult(
        verdict="failed",
        reason="1 of 1 columns have drifted (width)",
        rows=300,
        reference_rows=120,
        share=1.0,
        columns=(ColumnDrift(name="width", kind="number", score=0.7, limit=0.2, drifted=True),),
        notes=(Note("height", "error", "is missing in the window"),),
        checks={"data_drift": False},
    ),
    others={"2": 17},
)


@pytest.fixture
def looked(api: Running) -> Running:
    folder = report_folder(api.control.home, "production", "iris")
    folder.mkdir(parents=True)
    (folder / "latest.html").write_bytes(PAGE)
    (folder / "latest.json").write_bytes(msgspec.json.encode(REPORT))
    return api


def test_it_tells_the_scores_of_the_last_look(looked: Running) -> None:
    answer = looked.get("/v1/drift/iris?environment=production")
    assert answer.headers["content-type"] == "application/json"
    assert msgspec.json.decode(answer.content, type=DriftReport) == REPORT


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/v1/drift/iris", "text/html,*/*;q=0.8"), ("/v1/drift/iris/report", "*/*")],
)
def test_a_browser_gets_the_page_which_may_reach_nobody(
    looked: Running, path: str, accept: str
) -> None:
    answer = looked.get(f"{path}?environment=production", accept=accept)
    assert answer.content == PAGE
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts")
    assert "default-src 'none'" in policy
    assert "allow-same-origin" not in policy
    assert "http" not in policy


def test_a_browser_gives_the_key_as_a_password(looked: Running) -> None:
    def ask(key: str, method: str = "GET", path: str = "/v1/drift/iris/report") -> int:
        basic = base64.b64encode(f"anybody:{key}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}"}
        address = f"{path}?environment=production"
        return looked.ask(method, address, headers=headers, own_key=False).status_code

    assert ask(looked.key) == 200
    assert ask("wrong") == 401
    assert ask(KeyStore(looked.control.home).add("client", ["predict"])) in (401, 403)
    assert ask(looked.key, path="/v1/ledger") == 401
    assert ask(looked.key, "POST", "/v1/models/iris/rollback") == 401


def test_before_anybody_looked_it_says_how_to(api: Running) -> None:
    for path in ("/v1/drift/iris", "/v1/drift/iris/report"):
        problem = is_problem(api.get(path), 404, "no-drift-report")
        assert "`slipway drift iris --environment staging`" in problem["detail"]
    is_problem(api.get("/v1/drift/irsi"), 404, "unknown-model")
    is_problem(api.get("/v1/drift/iris?environment=prod"), 404, "unknown-environment")
    is_problem(api.get("/v1/drift/..%2f..%2fkeys/report"), 404, "not-found")


def test_a_damaged_one_is_unavailable_and_no_report(looked: Running) -> None:
    file = report_folder(looked.control.home, "production", "iris") / "latest.json"
    file.write_text("{")
    is_problem(looked.get("/v1/drift/iris?environment=production"), 503, "finding-damaged")
