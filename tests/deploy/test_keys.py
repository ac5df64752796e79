import multiprocessing
import re
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest

from bentos.model_server.keys import KeyEntry, KeyFile, Keys, read_keys
from deploy import keys
from deploy.home import Home
from deploy.keys import MAX_KEYS, PLATFORM, KeyStore, KeyStoreError, platform_headers


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def store(home: Home) -> KeyStore:
    return KeyStore(home)


def lets_in(home: Home, key: str) -> str:
    return Keys(home.keys).require({b"x-api-key": key.encode()}, "192.0.2.7", "predict")


def own_key(home: Home) -> str:
    return platform_headers(home)["X-API-Key"]


def test_a_key_is_kept_as_its_hash_alone_and_for_its_owner_alone(
    store: KeyStore, home: Home
) -> None:
    key = store.add("ann", ["predict", "predict"])
    assert re.fullmatch(r"slipway_[0-9a-f]{8}_[0-9a-f]{48}", key)
    secret = key.rpartition("_")[2]
    files = [path for path in home.root.rglob("*") if path.is_file()]
    assert home.keys in files
    assert all(secret not in path.read_text() for path in files)
    assert home.keys.stat().st_mode & 0o777 == 0o600
    (entry,) = store.entries()
    assert (entry.name, entry.scopes, entry.revoked) == ("ann", ("predict",), None)
    assert entry.sha256 == sha256(key.encode()).hexdigest()
    assert abs(datetime.now(UTC) - entry.created) < timedelta(minutes=1)


def test_a_revoked_key_stays_in_the_list_with_its_time_and_frees_its_name(
    store: KeyStore, home: Home
) -> None:
    old = store.add("ann", ["predict"])
    store.revoke("ann")
    new = store.add("ann", ["admin", "predict"])
    first, second = store.entries()
    assert first.revoked is not None
    assert first.created <= first.revoked <= datetime.now(UTC)
    assert (second.revoked, second.scopes) == (None, ("admin", "predict"))
    assert home.keys.stat().st_mode & 0o777 == 0o600
    assert lets_in(home, new) == "ann"
    with pytest.raises(Exception, match="unknown or was revoked"):
        lets_in(home, old)


@pytest.mark.parametrize("name", ["", "-a", ".a", "a b", "a/b", "é", "a\n", "x" * 64, '"'])
def test_a_name_that_no_label_should_have_is_refused(name: str, store: KeyStore) -> None:
    with pytest.raises(KeyStoreError, match="cannot be a key's name"):
        store.add(name, ["predict"])
    assert not store.home.keys.exists()


def test_a_name_is_given_once(store: KeyStore) -> None:
    store.add("x" * 63, ["predict"])
    with pytest.raises(KeyStoreError, match=r"there is a key x+: `slipway keys revoke x+`"):
        store.add("x" * 63, ["admin"])


def test_revoking_what_is_not_there_names_what_is(store: KeyStore) -> None:
    with pytest.raises(KeyStoreError, match=r"no key 'ann' to revoke; keys: none"):
        store.revoke("ann")
    for name in ("ann", "bob"):
        store.add(name, ["predict"])
    store.revoke("ann")
    with pytest.raises(KeyStoreError, match=r"no key 'ann' to revoke; keys: bob"):
        store.revoke("ann")


def _add(root: Path, number: int) -> str:
    return KeyStore(Home(root)).add(f"user-{number}", ["predict"])


def test_of_keys_added_at_once_none_is_lost(home: Home) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        added = pool.starmap(_add, [(home.root, number) for number in range(24)])
        pool.close()
        pool.join()
    names = {lets_in(home, key) for key in added}
    assert names == {f"user-{number}" for number in range(24)}
    assert lets_in(home, own_key(home)) == PLATFORM


def test_a_damaged_file_is_an_error_and_is_left_as_it_is(store: KeyStore, home: Home) -> None:
    store.add("ann", ["predict"])
    damaged = home.keys.read_bytes()[:-30]
    home.keys.write_bytes(damaged)
    for change in (lambda: store.add("bob", ["predict"]), lambda: store.revoke("ann")):
        with pytest.raises(KeyStoreError, match=rf"{home.keys} cannot be read: .*put it right"):
            change()
    with pytest.raises(KeyStoreError, match="cannot be read"):
        store.entries()
    assert home.keys.read_bytes() == damaged


def _filled(home: Home, revoked: int, live: int) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    home.create()
    entries = tuple(
        KeyEntry(
            id=f"{number:08x}",
            name=f"k{number}",
            scopes=("predict",),
            sha256="0" * 64,
            created=start,
            revoked=start + timedelta(days=number) if number < revoked else None,
        )
        for number in range(revoked + live)
    )
    home.keys.write_bytes(msgspec.json.encode(KeyFile(version=1, keys=entries)))


def test_a_full_file_forgets_the_keys_that_were_revoked_first(store: KeyStore, home: Home) -> None:
    _filled(home, revoked=3, live=MAX_KEYS - 3)
    store.add("ann", ["predict"])
    names = [entry.name for entry in store.entries()]
    assert len(names) == MAX_KEYS
    assert (names[:2], names[-1]) == (["k1", "k2"], "ann")


def test_there_is_a_limit_to_the_keys_in_use(store: KeyStore, home: Home) -> None:
    _filled(home, revoked=0, live=MAX_KEYS)
    with pytest.raises(KeyStoreError, match="there are 1000 keys already: revoke one"):
        store.add("ann", ["predict"])
    store.revoke("k7")
    assert lets_in(home, store.add("ann", ["predict"])) == "ann"


def test_the_platform_gets_a_key_of_its_own_with_the_first_one(store: KeyStore, home: Home) -> None:
    assert platform_headers(home) == {}
    store.add("ann", ["predict"])
    own = own_key(home)
    store.add("bob", ["predict"])
    store.revoke("ann")
    assert own_key(home) == own
    assert lets_in(home, own) == PLATFORM
    assert home.platform_key.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in store.entries()] == ["ann", "bob"]


def test_the_platform_s_key_can_be_neither_added_nor_revoked(store: KeyStore) -> None:
    store.add("ann", ["predict"])
    with pytest.raises(KeyStoreError, match="choose another name"):
        store.add(PLATFORM, ["predict"])
    with pytest.raises(KeyStoreError, match="cannot be revoked"):
        store.revoke(PLATFORM)


@pytest.mark.parametrize("lost", ["platform.key", "keys.json"])
def test_half_of_the_platform_s_key_is_replaced_by_a_whole_one(
    lost: str, store: KeyStore, home: Home
) -> None:
    store.add("ann", ["predict"])
    old = own_key(home)
    (home.platform_key if lost == "platform.key" else home.keys).unlink()
    if lost == "platform.key":
        with pytest.raises(KeyStoreError, match="is gone: the next `slipway keys add` makes it"):
            platform_headers(home)
    store.add("bob", ["predict"])
    assert own_key(home) != old
    assert lets_in(home, own_key(home)) == PLATFORM
    assert sum(entry.internal for entry in read_keys(home.keys)) == 1


def test_a_write_that_fails_changes_nothing(
    store: KeyStore, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = store.add("ann", ["predict"])

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys, "write_atomically", full)
    with pytest.raises(OSError, match="No space left"):
        store.revoke("ann")
    assert lets_in(home, key) == "ann"


def test_a_file_that_vanished_is_not_an_empty_one(home: Home) -> None:
    store = KeyStore(home)
    store.add("ann", ["predict"])
    home.keys.unlink()
    with pytest.raises(KeyStoreError, match="has vanished, so nobody is let in"):
        store.entries()
