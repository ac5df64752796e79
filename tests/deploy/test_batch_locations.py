"""Where a request may read and write."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.batch_locations import LocationError, require_input, require_output
from deploy.home import Home

Require = Callable[..., None]
LOCATIONS = ("/srv/tables", "file:///srv/more/", "s3://bucket/tables/", "gs://other")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    (made.batch / "iris").mkdir(parents=True)
    return made


def allowed(require: Require, location: str, home: Home) -> bool:
    try:
        require(location, home, LOCATIONS)
    except LocationError:
        return False
    return True


@pytest.mark.parametrize(
    ("location", "reads", "writes"),
    [
        ("{batch}/iris/new", True, True),
        ("file://{batch}/iris/new.parquet", True, True),
        ("{batch}/iris/*.parquet", True, False),
        ("{batch}/*.parquet", True, False),
        ("{batch}", True, False),
        ("{batch}/jobs", True, False),
        ("{batch}/jobs/x", True, False),
        ("{batch}/../keys.json", False, False),
        ("{batch}/iris/./x", False, False),
        ("{batch}-other/x", False, False),
        ("/srv/tables", True, False),
        ("/srv/tables/2026", True, True),
        ("/srv/more/x", True, True),
        ("/srv/tables2/x", False, False),
        ("/srv", False, False),
        ("/srv/*/x", False, False),
        ("/", False, False),
        ("batch/iris", False, False),
        ("~/batch", False, False),
        ("file:/etc/passwd", False, False),
        ("file://etc/passwd", False, False),
        ("file:///etc/passwd", False, False),
        ("local:///etc/passwd", False, False),
        ("FILE:///etc/passwd", False, False),
        ("zip://x::file://{batch}/x.zip", False, False),
        ("s3://bucket/tables/2026", True, True),
        ("s3://bucket/tables", False, False),
        ("s3://bucket/tables/", False, False),
        ("s3://bucket/tables2/x", False, False),
        ("s3://bucket/tables/../secret", False, False),
        ("s3://bucket/tables/%2e%2E/secret", False, False),
        ("S3://bucket/tables/x", False, False),
        ("gs://other/x", True, True),
        ("gs://other.evil/x", False, False),
        ("https://example.com/x", False, False),
        ("memory://x", False, False),
    ],
)
def test_below_the_named_places_and_nowhere_else(
    location: str, reads: bool, writes: bool, home: Home
) -> None:
    location = location.format(batch=home.batch)
    assert allowed(require_input, location, home) is reads
    assert allowed(require_output, location, home) is writes


def test_a_symbolic_link_leads_nowhere(home: Home, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "a.parquet").touch()
    inside = home.batch / "iris"
    (inside / "way").symlink_to(outside)
    (inside / "new").mkdir()
    for location in ("way", "way/a.parquet", "way/*.parquet"):
        assert not allowed(require_input, str(inside / location), home)
    assert not allowed(require_output, str(inside / "way" / "out"), home)
    assert allowed(require_input, str(inside / "new"), home)
    (inside / "new" / "b.parquet").symlink_to(outside / "a.parquet")
    for location in ("new", "new/*.parquet", "*/b.parquet", "new/b.parquet"):
        assert not allowed(require_input, str(inside / location), home)
    (inside / "new" / "b.parquet").unlink()
    (inside / "way").unlink()
    (inside / "new" / "c.parquet").symlink_to(inside / "d.parquet")
    assert allowed(require_input, str(inside / "new"), home)


def test_a_refusal_says_the_value_and_what_helps(home: Home) -> None:
    with pytest.raises(LocationError) as caught:
        require_output("s3://bucket/else", home, LOCATIONS)
    assert "'s3://bucket/else'" in str(caught.value)
    assert "batch.locations in serving_config/platform.yaml" in str(caught.value)


@pytest.mark.parametrize(
    ("location", "secrets"),
    [
        ("sftp://ann:hunter2@host/tables/x", ["hunter2"]),
        ("https://t0ken@host/tables/x", ["t0ken"]),
        ("https://host/tables/x.csv?X-Amz-Signature=abcd", ["abcd"]),
        ("abfs://tables@account.dfs/x?sig=abcd", ["abcd"]),
        ("https://else/x?sig=abcd", ["abcd"]),
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(
    location: str, secrets: list[str], home: Home
) -> None:
    roots = ("sftp://ann:hunter2@host/tables", "https://host/tables", "abfs://tables@account.dfs")
    for require in (require_input, require_output):
        with pytest.raises(LocationError) as caught:
            require(location, home, roots)
        assert not [secret for secret in secrets if secret in str(caught.value)]
    with pytest.raises(LocationError, match="has a password or a signature in it"):
        require_input(location, home, roots)
    require_input("abfs://tables@account.dfs/x-?/day=1/y-?.csv", home, roots)
    require_input("abfs://tables@account.dfs/x", home, roots)


def test_links_in_a_circle_are_refused(home: Home) -> None:
    (home.batch / "a").symlink_to(home.batch / "b")
    (home.batch / "b").symlink_to(home.batch / "a")
    with pytest.raises(LocationError, match="leads nowhere"):
        require_input(str(home.batch / "a"), home, LOCATIONS)


def test_a_home_behind_a_link_is_the_home(home: Home, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home.root)
    other = Home(tmp_path / "link")
    assert allowed(require_output, str(other.batch / "iris" / "x"), other)
    assert allowed(require_output, str(home.batch / "iris" / "x"), other)


@given(parts=st.lists(st.sampled_from(["..", ".", "a", "*", "tables", "", "%2e%2e"]), max_size=6))
def test_no_way_of_spelling_leads_out(parts: list[str]) -> None:
    home = Home(Path("/nowhere"))
    location = "/srv/tables/" + "/".join(parts)
    if allowed(require_output, location, home):
        assert Path(location).resolve().is_relative_to("/srv/tables")
        assert ".." not in location.split("/")
