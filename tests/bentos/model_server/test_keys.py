"""Who is let in, by headers, address, scope and what the file says."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bentos.model_server.keys import Keys
from bentos.model_server.problems import Problem
from deploy.home import Home
from deploy.keys import KeyStore

HERE, ELSEWHERE = "127.0.0.1", "192.0.2.7"


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(Home(tmp_path / "home"))


def sent(key: str) -> dict[bytes, bytes]:
    return {b"x-api-key": key.encode()}


def refused(keys: Keys, headers: dict[bytes, bytes], client: str | None, scope: str) -> Problem:
    with pytest.raises(Problem) as caught:
        keys.require(headers, client, scope)
    return caught.value


@pytest.mark.parametrize("client", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_without_any_key_this_machine_may_predict(client: str, store: KeyStore) -> None:
    for keys in (Keys(None), Keys(store.home.keys)):
        assert keys.require({}, client, "predict") == ""
        assert keys.require(sent("slipway_made_up"), client, "predict") == ""


@pytest.mark.parametrize(
    "client",
    [None, "", ELSEWHERE, "::2", "::ffff:192.0.2.7", "127.0.0.1.example.org", "localhost"],
)
def test_without_any_key_nobody_else_may(client: str | None) -> None:
    problem = refused(Keys(None), {}, client, "predict")
    assert (problem.status, problem.headers) == (401, (("www-authenticate", "Bearer"),))
    assert "no API key is configured" in problem.detail


@pytest.mark.parametrize(
    ("forwarded", "local"),
    [
        (b"127.0.0.1", True),
        (b"127.0.0.1, ::1", True),
        (b"192.0.2.7", False),
        (b"127.0.0.1, 192.0.2.7", False),
        (b"192.0.2.7, 127.0.0.1", False),
        (b"unknown", False),
    ],
)
def test_whom_a_proxy_on_this_machine_names_has_to_be_here_too(
    forwarded: bytes, local: bool
) -> None:
    headers = {b"x-forwarded-for": forwarded}
    if local:
        assert Keys(None).require(headers, HERE, "predict") == ""
    else:
        assert refused(Keys(None), headers, HERE, "predict").status == 401
    # What a header says never helps a client that is elsewhere.
    assert refused(Keys(None), headers, ELSEWHERE, "predict").status == 401


@pytest.mark.parametrize(
    ("forwarded", "local"),
    [
        ("127.0.0.1,{here}", True),
        ("::1, {here}", True),
        ("127.0.0.1,127.0.0.1", True),
        ("192.0.2.7,{here}", False),
        ("127.0.0.1,192.0.2.7", False),
        ("127.0.0.1,example.org", False),
        ("127.0.0.1,0.0.0.0", False),
        ("127.0.0.1,224.0.0.1", False),
        ("127.0.0.1,", False),
    ],
)
def test_a_copy_that_the_gateway_has_signed_with_its_address_is_from_who_sent_the_request(
    forwarded: str, local: bool
) -> None:
    """A request without keys would be refused as a copy else, and a candidate blamed for it."""
    headers = {b"x-forwarded-for": forwarded.format(here=own_address()).encode()}
    assert refused(Keys(None), headers, ELSEWHERE, "predict").status == 401
    headers[b"x-envoy-internal"] = b"true"
    if local:
        assert Keys(None).require(headers, HERE, "predict") == ""
    else:
        assert refused(Keys(None), headers, HERE, "predict").status == 401
    assert refused(Keys(None), headers, ELSEWHERE, "predict").status == 401


def own_address() -> str:
    """This machine's, beyond its loopback; that where it has no other."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def test_a_file_that_was_there_before_lets_nobody_in_when_it_is_gone(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys.json", required=True)
    assert refused(keys, {}, HERE, "predict").status == 503


def test_without_any_key_admin_is_closed_to_all() -> None:
    assert refused(Keys(None), {}, HERE, "admin").status == 401


def test_a_key_is_known_by_its_name_in_either_header_from_anywhere(store: KeyStore) -> None:
    key = store.add("ann", ["predict"])
    keys = Keys(store.home.keys)
    assert keys.require(sent(key), ELSEWHERE, "predict") == "ann"
    for scheme in ("Bearer ", "bearer "):
        header = {b"authorization": f"{scheme}{key}".encode()}
        assert keys.require(header, HERE, "predict") == "ann"


def test_x_api_key_goes_before_authorization(store: KeyStore) -> None:
    ann, bob = (store.add(name, ["predict"]) for name in ("ann", "bob"))
    keys = Keys(store.home.keys)
    bearer = {b"authorization": f"Bearer {bob}".encode()}
    assert keys.require(bearer | sent(ann), HERE, "predict") == "ann"
    assert refused(keys, bearer | sent(""), HERE, "predict").status == 401


@pytest.mark.parametrize(
    "value",
    ["", "Basic YW5uOng=", "Bearer", "Bearer ", "BEARER {key}", "Bearer  {key}", "Bearer {key} "],
)
def test_with_a_key_configured_this_machine_needs_one_too(value: str, store: KeyStore) -> None:
    key = store.add("ann", ["predict"])
    keys = Keys(store.home.keys)
    assert refused(keys, {}, HERE, "predict").status == 401
    header = {b"authorization": value.replace("{key}", key).encode()}
    assert refused(keys, header, HERE, "predict").status == 401


@pytest.fixture(scope="module")
def armed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Keys, bytes]:
    store = KeyStore(Home(tmp_path_factory.mktemp("home")))
    key = store.add("ann", ["predict"])
    return Keys(store.home.keys), key.encode()


@given(data=st.data())
def test_nothing_but_the_whole_key_is_a_key(armed: tuple[Keys, bytes], data: st.DataObject) -> None:
    keys, key = armed
    place = data.draw(st.integers(0, len(key)))
    other = data.draw(
        st.one_of(
            st.binary(max_size=600),
            st.binary(min_size=1, max_size=300).map(lambda extra: key[:place] + extra),
            st.just(key[:place] + key[place + 1 :]),
            st.just(key.upper()),
        ).filter(lambda value: value != key)
    )
    for headers in ({b"x-api-key": other}, {b"authorization": b"Bearer x" + other}):
        assert refused(keys, headers, HERE, "predict").status == 401


def test_a_valid_key_without_the_scope_is_403_and_says_which_it_has(store: KeyStore) -> None:
    admin, reader = store.add("root", ["admin"]), store.add("ann", ["predict"])
    both = store.add("bob", ["predict", "admin"])
    keys = Keys(store.home.keys)
    problem = refused(keys, sent(admin), HERE, "predict")
    assert (problem.status, problem.kind) == (403, "forbidden")
    assert problem.detail == "the key root has the scope admin; this needs predict"
    assert refused(keys, sent(reader), HERE, "admin").status == 403
    assert {keys.require(sent(both), HERE, scope) for scope in ("predict", "admin")} == {"bob"}


def test_with_every_key_revoked_nobody_is_let_in(store: KeyStore) -> None:
    key = store.add("ann", ["predict"])
    store.revoke("ann")
    keys = Keys(store.home.keys)
    for headers in ({}, sent(key)):
        assert refused(keys, headers, HERE, "predict").status == 401


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _misspell(path: Path) -> None:
    path.write_text(path.read_text().replace('"revoked"', '"revoke"'))


def _make_unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()  # root, who may run the tests, can read a file of any mode


@pytest.mark.parametrize("damage", [Path.unlink, _cut, _misspell, _make_unreadable])
def test_a_file_that_cannot_be_read_lets_nobody_in_until_it_can(
    damage: Callable[[Path], None], store: KeyStore, caplog: pytest.LogCaptureFixture
) -> None:
    path, key = store.home.keys, store.add("ann", ["predict"])
    good, keys = path.read_bytes(), Keys(path)
    damage(path)
    for _ in range(3):
        keys.refresh()
        for headers in ({}, sent(key)):
            problem = refused(keys, headers, HERE, "predict")
            assert (problem.status, problem.kind) == (503, "keys-unavailable")
    (line,) = caplog.messages
    assert str(path) in line
    if path.is_dir():
        path.rmdir()
    path.write_bytes(good)
    keys.refresh()
    assert keys.require(sent(key), HERE, "predict") == "ann"
    assert caplog.messages[1:] == ["The API keys can be read again"]


def test_a_server_that_starts_with_a_broken_file_lets_nobody_in(store: KeyStore) -> None:
    key = store.add("ann", ["predict"])
    _cut(store.home.keys)
    assert refused(Keys(store.home.keys), sent(key), HERE, "predict").status == 503


@contextmanager
def not_root() -> Iterator[None]:
    """Root may read a file of any mode."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_no_longer_be_read_is_noticed(store: KeyStore) -> None:
    key = store.add("ann", ["predict"])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)  # so that the file itself is what counts
        path = Path(shutil.copy(store.home.keys, folder))
        keys = Keys(path)
        path.chmod(0)
        with not_root():
            keys.refresh()
        assert refused(keys, sent(key), HERE, "predict").status == 503
