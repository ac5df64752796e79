"""The API keys of a home: adding, listing, revoking. Model servers read the file by themselves.

A key's secret has 192 random bits, which nobody can guess from a fast hash.
"""

import fcntl
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import msgspec

from bentos.model_server.keys import (
    ID_LENGTH,
    NAME,
    PLATFORM,
    PREFIX,
    KeyEntry,
    KeyFile,
    Scope,
    read_keys,
)
from deploy.home import Home, write_atomically

MAX_KEYS = 1000
# Where a pod has the Secret with the files that `take_mounted` names.
MOUNTED = Path("/etc/slipway/keys")
_SECRET_BYTES = 24


class KeyStoreError(RuntimeError):
    """The keys cannot be read, or a change was refused; nothing was changed."""


def platform_headers(home: Home) -> dict[str, str]:
    """What the platform's own requests carry; nothing while no key is configured."""
    try:
        return {"X-API-Key": home.platform_key.read_text()}
    except FileNotFoundError:
        if home.keys.exists():
            raise KeyStoreError(
                f"{home.platform_key} is gone: the next `slipway keys add` makes it anew"
            ) from None
        return {}


def take_mounted(home: Home, folder: Path = MOUNTED) -> None:
    """A pod's own home gets the platform's keys, where the pod is given them: it would make others,
    which no model server knows. KeyStoreError where one of them is missing."""
    if not folder.is_dir():
        return
    files = {"keys.json": home.keys, "pii.key": home.pii_key, "platform.key": home.platform_key}
    for name, path in files.items():
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise KeyStoreError(
                f"{folder / name} cannot be read ({error.strerror}): the Secret slipway-keys needs "
                f"{', '.join(files)}, see docs/kubernetes.md"
            ) from error
        write_atomically(path, content, mode=0o600)


@dataclass(frozen=True)
class KeyStore:
    """The users' keys; beside them the file has one of the platform's own."""

    home: Home

    def add(self, name: str, scopes: Sequence[Scope]) -> str:
        """A new key, which is told here and never again."""
        if not re.match(NAME, name):
            raise KeyStoreError(
                f"{name!r} cannot be a key's name: letters, digits, '.', '_' and '-', at most 63, "
                "a letter or digit first"
            )
        if name == PLATFORM:
            raise KeyStoreError(f"{PLATFORM} is the platform's own key: choose another name")
        with self._exclusive():
            entries = self._read()
            live = [entry for entry in entries if entry.revoked is None]
            if any(entry.name == name for entry in live):
                raise KeyStoreError(
                    f"there is a key {name}: `slipway keys revoke {name}`, or choose another name"
                )
            if sum(not entry.internal for entry in live) >= MAX_KEYS:
                raise KeyStoreError(f"there are {MAX_KEYS} keys already: revoke one")
            key, entry = _new(name, scopes, entries)
            self._write([*entries, entry])
        return key

    def demand(self) -> None:
        """From now on everybody needs a key, also while no user has one."""
        with self._exclusive():
            if not self.home.keys.exists() and not self.home.platform_key.exists():
                self._write([])

    def entries(self) -> list[KeyEntry]:
        """The users' keys, the revoked ones too, in the order they were added.

        KeyStoreError where there were keys and their file is gone: then nobody is let in.
        """
        if not self.home.keys.exists() and self.home.platform_key.exists():
            raise KeyStoreError(
                f"{self.home.keys} has vanished, so nobody is let in: bring it back, or delete "
                f"{self.home.platform_key} as well to do without keys"
            )
        return [entry for entry in self._read() if not entry.internal]

    def revoke(self, name: str) -> None:
        """Let a key in no longer; its entry stays, with the time."""
        if name == PLATFORM:
            raise KeyStoreError(f"{PLATFORM} is the platform's own key and cannot be revoked")
        with self._exclusive():
            entries = self._read()
            found = next((e for e in entries if e.name == name and e.revoked is None), None)
            if found is None:
                names = sorted(e.name for e in entries if e.revoked is None and not e.internal)
                listed = ", ".join(names[:20]) or "none"
                raise KeyStoreError(f"there is no key {name!r} to revoke; keys: {listed}")
            revoked = msgspec.structs.replace(found, revoked=_now())
            self._write([revoked if entry is found else entry for entry in entries])

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Of two changes at once, the second starts from what the first has left."""
        self.home.create()
        with (self.home.run / "keys.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> list[KeyEntry]:
        path = self.home.keys
        try:
            return [*read_keys(path)]
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError) as error:
            raise KeyStoreError(
                f"{path} cannot be read: {error}; put it right, or delete it and add the keys anew"
            ) from error

    def _write(self, entries: Sequence[KeyEntry]) -> None:
        entries = _without_oldest_revoked(self._with_platform_key(entries))
        data = msgspec.json.encode(KeyFile(version=1, keys=tuple(entries)))
        write_atomically(self.home.keys, msgspec.json.format(data), mode=0o600)

    def _with_platform_key(self, entries: Sequence[KeyEntry]) -> Sequence[KeyEntry]:
        """The entries with one for `platform.key`, which is made where it is missing."""
        path = self.home.platform_key
        held = sha256(path.read_bytes()).hexdigest() if path.exists() else None
        if any(entry.internal and entry.sha256 == held for entry in entries):
            return entries
        key, own = _new(PLATFORM, ["predict"], entries, internal=True)
        # Before the entry: a key that no server knows yet does no harm where none is needed.
        write_atomically(path, key.encode(), mode=0o600)
        return [own, *(entry for entry in entries if not entry.internal)]


def _new(
    name: str, scopes: Sequence[Scope], others: Sequence[KeyEntry], *, internal: bool = False
) -> tuple[str, KeyEntry]:
    taken = {entry.id for entry in others}
    while (identity := secrets.token_hex(ID_LENGTH // 2)) in taken:
        pass
    key = f"{PREFIX}{identity}_{secrets.token_hex(_SECRET_BYTES)}"
    return key, KeyEntry(
        id=identity,
        name=name,
        scopes=tuple(dict.fromkeys(scopes)),
        sha256=sha256(key.encode()).hexdigest(),
        created=_now(),
        revoked=None,
        internal=internal,
    )


def _without_oldest_revoked(entries: Sequence[KeyEntry]) -> Sequence[KeyEntry]:
    """At most MAX_KEYS users' entries, so that the file cannot grow for ever."""
    revoked = sorted((e for e in entries if e.revoked), key=lambda e: (e.revoked, e.id))
    surplus = max(0, sum(not entry.internal for entry in entries) - MAX_KEYS)
    forgotten = {entry.id for entry in revoked[:surplus]}
    return [entry for entry in entries if entry.id not in forgotten]


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
