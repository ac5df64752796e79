"""What an image is built from, and what its small helpers say."""

import importlib.metadata
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy.docker.engine import Build
from deploy.docker.images import (
    CHECKOUT,
    ImageError,
    bento_build,
    orchestration_build,
    server_build,
    serving_name,
)
from tests.deploy.releases import release

PEM = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
READY, PINS = (CHECKOUT / "deploy" / "docker" / name for name in ("ready.py", "require_pins.py"))


def files(build: Build) -> set[str]:
    return {
        path.relative_to(build.context).as_posix()
        for path in build.context.rglob("*")
        if path.is_file()
    }


def run(script: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-I", "-S", str(script), *map(str, arguments)]
    command = [part for part in command if script == READY or part not in ("-I", "-S")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_every_file_that_a_dockerfile_copies_is_in_its_context(tmp_path: Path) -> None:
    bento = tmp_path / "bento"
    (bento / "src").mkdir(parents=True)
    (bento / "src" / "requirements.txt").write_text("")
    with (
        orchestration_build("o", {}, None) as orchestration,
        server_build("s", {}, None) as server,
        bento_build("b", release(), bento, {}, None) as one,
    ):
        for build in (orchestration, server, one):
            text = (build.context / build.dockerfile).read_text()
            for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M):
                for source in line.split()[:-1]:
                    if source != "bento/" or build is one:
                        assert (build.context / source).exists(), (build.name, source)


def test_no_secret_and_no_bytecode_is_in_a_context(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_text(PEM)
    with orchestration_build("o", {}, tmp_path / "own.pem") as build:
        found = files(build)
    assert "requirements/ca/own.crt" in found
    assert not {name for name in found if "__pycache__" in name or name.endswith(".env")}


@pytest.mark.parametrize("text", ["no certificate", ""])
def test_an_extra_authority_that_is_none_stops_the_build(text: str, tmp_path: Path) -> None:
    (tmp_path / "own.crt").write_text(text)
    with pytest.raises(ImageError, match=r"own\.crt holds no PEM certificate"):  # noqa: SIM117
        with server_build("s", {}, tmp_path):
            pass
    with pytest.raises(ImageError, match="No such file"):  # noqa: SIM117
        with server_build("s", {}, tmp_path / "none.crt"):
            pass


def test_the_image_of_a_bento_is_named_by_the_setting(tmp_path: Path) -> None:
    made = release(3)
    version = made.tag.partition(":")[2]
    assert serving_name("slipway/{model}:{bento}", made) == f"slipway/iris:{version}"
    assert serving_name("registry.example/x:{bento}", made) == f"registry.example/x:{version}"
    with bento_build("b", made, tmp_path, {"BASE_IMAGE": "base"}, None) as build:
        options = build.options()
    assert f"BENTO={made.tag}" in options
    assert f"BENTO_DIGEST={made.bundle.digest}" in options
    assert f"ONNX_SHA256={made.bundle.onnx_sha256}" in options
    assert "BASE_IMAGE=base" in options


def test_other_packages_than_the_bento_was_verified_with_are_refused(tmp_path: Path) -> None:
    installed = importlib.metadata.version("onnxruntime")
    pins = tmp_path / "requirements.txt"
    pins.write_text(f"onnxruntime=={installed}\n\n")
    assert run(PINS, pins).returncode == 0
    pins.write_text("onnxruntime==0.1\nno-such-package==2\n")
    refused = run(PINS, pins)
    assert refused.returncode == 1
    assert f"onnxruntime is {installed}, the Bento was verified with 0.1" in refused.stderr
    assert "no-such-package is missing" in refused.stderr


@pytest.fixture
def server() -> Iterator[int]:
    """200 at /ready, 503 elsewhere."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/ready" else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield made.server_port
        made.shutdown()
        thread.join()


def test_the_health_check_passes_where_all_answer(server: int, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        url = f"http://127.0.0.1:{server}/ready"
        checked = run(READY, url, f"tcp:127.0.0.1:{server}", f"unix:{tmp_path / 's'}")
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_health_check_says_what_does_not_answer(server: int, tmp_path: Path) -> None:
    for target, why in {
        f"http://127.0.0.1:{server}/other": "503",
        f"unix:{tmp_path / 'none'}": "No such file",
        f"unix:{tmp_path / 'none'}:/ready": "No such file",
        "tcp:127.0.0.1:1": "refused",
        "http://127.0.0.1:1/ready": "refused",
    }.items():
        checked = run(READY, target)
        assert checked.returncode == 1
        assert target in checked.stderr
        assert why in checked.stderr
