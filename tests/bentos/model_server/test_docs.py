import json
import re

from bentos.model_server.swagger import ASSETS, assets_folder
from tests.bentos.model_server.clients import App


def test_the_schema_is_of_exactly_this_model(spam_app: App, iris_app: App) -> None:
    document = spam_app.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    features = document["components"]["schemas"]["Features"]
    assert features["properties"] == {"email_content": {"type": "string", "maxLength": 1000}}
    assert features["required"] == ["email_content"]
    assert document["components"]["schemas"]["PredictAnswer"]["properties"]["prediction"] == {
        "enum": [0, 1]
    }
    iris = iris_app.client.get("/openapi.json").json()["components"]["schemas"]
    assert iris["Features"]["properties"]["petal_width"] == {"type": "number", "format": "double"}
    assert iris["BatchRequest"]["properties"]["instances"]["maxItems"] == 5


def test_every_reference_in_the_schema_resolves(iris_app: App) -> None:
    text = iris_app.client.get("/openapi.json").text
    names = set(re.findall(r'"\$ref":"#/components/schemas/(\w+)"', text))
    assert names <= set(json.loads(text)["components"]["schemas"])


def test_every_example_in_the_schema_works(iris_app: App, spam_app: App, petal_app: App) -> None:
    for app in (iris_app, spam_app, petal_app):
        paths = app.client.get("/openapi.json").json()["paths"]
        for path in (path for path in paths if "post" in paths[path]):
            content = paths[path]["post"]["requestBody"]["content"]["application/json"]
            assert app.post(path, content["example"]).status_code == 200


def test_every_path_in_the_schema_is_served(iris_app: App) -> None:
    for path, methods in iris_app.client.get("/openapi.json").json()["paths"].items():
        for method in methods:
            assert iris_app.client.request(method, path).status_code != 404


def test_the_docs_need_no_internet(iris_app: App) -> None:
    page = iris_app.client.get("/docs").text
    links = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert all(not link.startswith(("http", "//")) for link in links)
    for link in (link for link in links if not link.startswith("data:")):
        assert iris_app.client.get(f"/{link}").status_code == 200
    assert iris_app.client.get("/", follow_redirects=False).headers["location"] == "docs"


def test_bentoml_still_ships_swagger_ui() -> None:
    assert all((assets_folder() / name).stat().st_size > 1000 for name in ASSETS)
