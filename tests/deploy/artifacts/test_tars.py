import io
import os
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.artifacts import tars
from deploy.artifacts.errors import DamagedArtifactError
from deploy.artifacts.tars import pack, unpack

PARTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"),
    min_size=1,
    max_size=40,
).filter(lambda text: text not in (".", "..", "__pycache__") and len(text.encode()) < 200)
TREES = st.dictionaries(st.tuples(PARTS, PARTS), st.tuples(st.binary(), st.booleans()), max_size=5)


def tree(folder: Path) -> dict[str, tuple[bytes, bool]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), os.access(path, os.X_OK))
        for path in folder.rglob("*")
        if path.is_file()
    }


def packed(folder: Path) -> bytes:
    data = io.BytesIO()
    pack(folder, data)
    return data.getvalue()


@settings(deadline=None, max_examples=60)
@given(TREES)
def test_what_is_packed_is_unpacked_and_packed_again_to_the_same_bytes(
    files: dict[tuple[str, str], tuple[bytes, bool]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        first, second = Path(name) / "a", Path(name) / "b"
        first.mkdir()
        second.mkdir()
        for parts, (data, executable) in files.items():
            path = first.joinpath(*parts)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            path.chmod(0o700 if executable else 0o600)
            os.utime(path, (len(data), len(data)))
        data = packed(first)
        unpack(io.BytesIO(data), second)
        assert tree(second) == tree(first)
        assert packed(second) == data


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=600))
def test_bytes_that_were_changed_are_refused_or_stay_within_the_folder(
    at: int, noise: bytes
) -> None:
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "a", Path(name) / "b"
        source.mkdir()
        target.mkdir()
        (source / "one").write_bytes(b"1" * 700)
        (source / "two").write_bytes(b"2" * 700)
        data = bytearray(packed(source))
        data[at : at + len(noise)] = noise
        with suppress(DamagedArtifactError):
            unpack(io.BytesIO(bytes(data)), target)
        assert sorted(path.name for path in Path(name).iterdir()) == ["a", "b"]
        assert not any(path.is_symlink() for path in target.rglob("*"))


def test_bytecode_is_left_out_and_links_are_refused(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_bytes(b"")
    (tmp_path / "x.py").write_bytes(b"")
    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path))) as tar:
        assert tar.getnames() == ["x.py"]
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(DamagedArtifactError, match="no regular file"):
        packed(tmp_path)


def entry(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> bytes:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.linkname = kind, size, link
    return made.tobuf(tarfile.PAX_FORMAT) + b"\0" * (-(-size // 512) * 512)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([entry("/etc/passwd")], "the path"),
        ([entry("../out")], "the path"),
        ([entry("a/../../out")], "the path"),
        ([entry("./a")], "the path"),
        ([entry("a//b")], "the path"),
        ([entry("a", tarfile.SYMTYPE, link="/etc")], "no regular file"),
        ([entry("a", tarfile.LNKTYPE, link="b")], "no regular file"),
        ([entry("a", tarfile.DIRTYPE)], "no regular file"),
        ([entry("a", tarfile.CHRTYPE)], "no regular file"),
        ([entry("a", tarfile.FIFOTYPE)], "no regular file"),
        ([entry("a"), entry("a")], "twice"),
        ([entry("a"), entry("a/b")], "as a file and as a folder"),
        ([entry("a/b"), entry("a")], "as a file and as a folder"),
        ([entry("a", size=2000)], "bytes"),
        ([entry(str(number)) for number in range(6)], "files"),
    ],
)
def test_what_no_bento_has_is_refused(
    entries: list[bytes], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tars, "MAX_FILES", 5)
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(DamagedArtifactError, match=words):
        unpack(io.BytesIO(b"".join(entries) + b"\0" * 1024), target, max_bytes=1000)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_tar_that_ends_too_early_is_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.mkdir()
    target.mkdir()
    (source / "one").write_bytes(b"1" * 2000)
    with pytest.raises(DamagedArtifactError):
        unpack(io.BytesIO(packed(source)[:1500]), target)
