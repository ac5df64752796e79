"""The zip of a function: the same for the same files, and refused where Lambda would refuse it."""

import os
import zipfile
from pathlib import Path

import pytest

from deploy.aws_lambda import package
from deploy.aws_lambda.package import (
    PackageError,
    add_sources,
    checked_sizes,
    main,
    write_zip,
)


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """A Bento's sources."""
    src = tmp_path / "bento" / "src"
    for name in ("bentos/__init__.py", "bentos/__pycache__/x.pyc", "model/model.onnx"):
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        (src / name).write_bytes(name.encode())
    return src


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(
    src: Path, tmp_path: Path
) -> None:
    zips = []
    for number, umask in ((1, 0o022), (2, 0o077)):
        old = os.umask(umask)
        try:
            root = tmp_path / str(number)
            add_sources(root, src, "iris:1-fp32-abc", None)
            os.utime(root / "lambda_function.py", (number * 10**9, number * 10**9))
            write_zip(root, tmp_path / f"{number}.zip")
        finally:
            os.umask(old)
        zips.append((tmp_path / f"{number}.zip").read_bytes())
    assert zips[0] == zips[1]
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert archive.namelist() == [
            "bentos/__init__.py",
            "deploy/__init__.py",
            "deploy/aws_lambda/__init__.py",
            "deploy/aws_lambda/handler.py",
            "lambda_function.py",
            "model/model.onnx",
        ]
        assert b"function('iris:1-fp32-abc')" in archive.read("lambda_function.py")
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {0o644}


def test_what_is_larger_than_lambda_takes_is_refused_with_the_largest_parts(
    src: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    add_sources(root, src, "iris:1-fp32-abc", None)
    for name, megabytes in (("onnxruntime", 200), ("numpy", 60)):
        (root / name).mkdir()
        with (root / name / "library.so").open("wb") as file:
            file.truncate(megabytes << 20)
    with pytest.raises(PackageError) as raised:
        checked_sizes(root)
    assert "would be 260.0 MB unpacked, Lambda takes 250.0 MB" in str(raised.value)
    assert "largest parts: onnxruntime 200.0 MB, numpy 60.0 MB" in str(raised.value)


def test_a_bento_that_is_not_there_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIPWAY_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["iris:1-fp32-abc", "--output", str(tmp_path / "x.zip")])
    assert str(ended.value).startswith("error: Bento iris:1-fp32-abc must not be deployed: ")
    assert "\n" not in str(ended.value)


def test_packages_that_cannot_be_had_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("msgspec==0.0.0\n")
    monkeypatch.setenv("UV_OFFLINE", "1")
    with pytest.raises(PackageError, match=r"cannot be installed: .*msgspec") as raised:
        package.install(tmp_path / "root", requirements, package.Runtime())
    assert "\n" not in str(raised.value)
