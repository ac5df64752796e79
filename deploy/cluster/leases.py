"""Who is starting a server, and who stops one: a Lease for each server, across all replicas.

What `deploy.targets.holds` is on one machine. Several may hold a server (an annotation of its
Lease); who stops it is alone with it (the Lease's holder). Whoever has died is known by not having
renewed: the clocks of the replicas may differ by a few seconds, not by `SECONDS`.
"""

import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from deploy.cluster.client import Cluster
from deploy.cluster.errors import ClusterError, MovedError
from deploy.manifests.names import FIELD_MANAGER, Json, object_name

SECONDS = 30
_RENEW_SECONDS = 6.0
_HOLDERS = "slipway.dev/holders"
_LABELS = {
    "app.kubernetes.io/managed-by": FIELD_MANAGER,
    "app.kubernetes.io/component": "server-lease",
}
_MOST_RACES = 50
_POLL_SECONDS = 0.2

logger = logging.getLogger("slipway.cluster")
Clock = Callable[[], datetime]


@dataclass
class _Claims:
    """What a Lease says: who holds the server and who stops it, and when each renewed that."""

    holders: dict[str, str] = field(default_factory=dict)
    stopper: str | None = None
    stopper_renewed: str | None = None

    @classmethod
    def read(cls, lease: Json | None, now: datetime) -> "_Claims":
        """Without those who have not renewed."""
        if lease is None:
            return cls()
        holders = json.loads(lease["metadata"].get("annotations", {}).get(_HOLDERS, "{}"))
        claims = cls({who: at for who, at in holders.items() if _is_fresh(at, now)})
        spec = lease.get("spec", {})
        if spec.get("holderIdentity") and _is_fresh(spec["renewTime"], now):
            claims.stopper, claims.stopper_renewed = spec["holderIdentity"], spec["renewTime"]
        return claims

    def written(self, lease: Json) -> Json:
        """The Lease with these claims."""
        spec: Json = {"leaseDurationSeconds": SECONDS}
        if self.stopper is not None:
            spec |= {"holderIdentity": self.stopper, "renewTime": self.stopper_renewed}
        meta = lease["metadata"] | {"annotations": {_HOLDERS: json.dumps(self.holders)}}
        return lease | {"metadata": meta, "spec": spec}


def _is_fresh(renewed: str, now: datetime) -> bool:
    return now - datetime.fromisoformat(renewed) < timedelta(seconds=SECONDS)


def _stamp(now: datetime) -> str:
    return now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Leases:
    """Of all servers; namespace: the platform's, which must be there."""

    cluster: Cluster
    namespace: str
    clock: Clock = lambda: datetime.now(UTC)

    @contextmanager
    def holding(self, server: str) -> Iterator[None]:
        """Meanwhile the server is somebody's, of several maybe. Waits until nobody is `alone`."""
        me = uuid.uuid4().hex

        def claim(claims: _Claims) -> bool:
            if claims.stopper is None:
                claims.holders[me] = _stamp(self.clock())
            return claims.stopper is None

        def release(claims: _Claims) -> bool:
            return claims.holders.pop(me, None) is not None

        while not self._change(server, claim):
            time.sleep(_POLL_SECONDS)
        with self._kept(server, claim, release):
            yield

    @contextmanager
    def alone(self, server: str) -> Iterator[bool]:
        """Whether nobody holds or stops the server; if so, nobody can meanwhile."""
        me = uuid.uuid4().hex

        def claim(claims: _Claims) -> bool:
            is_mine = not claims.holders and claims.stopper in (None, me)
            if is_mine:
                claims.stopper, claims.stopper_renewed = me, _stamp(self.clock())
            return is_mine

        def release(claims: _Claims) -> bool:
            is_mine = claims.stopper == me
            if is_mine:
                claims.stopper = claims.stopper_renewed = None
            return is_mine

        if not self._change(server, claim):
            yield False
            return
        with self._kept(server, claim, release):
            yield True

    def sweep(self) -> None:
        """Delete what the dead have left behind of servers that are gone."""
        for lease in self.cluster.list("Lease", self.namespace, _LABELS):
            if _Claims.read(lease, self.clock()) == _Claims():
                with suppress(MovedError):
                    self.cluster.delete(lease, unchanged=True)

    @contextmanager
    def _kept(
        self, server: str, renew: Callable[[_Claims], bool], release: Callable[[_Claims], bool]
    ) -> Iterator[None]:
        """Renewed until the end, then released; a claim that cannot be released expires."""
        ended = threading.Event()

        def renewing() -> None:
            while not ended.wait(_RENEW_SECONDS):
                self._try(server, renew)

        thread = threading.Thread(target=renewing, name=f"lease {server}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self._try(server, release)

    def _try(self, server: str, change: Callable[[_Claims], bool]) -> None:
        try:
            self._change(server, change)
        except ClusterError as error:
            logger.warning("the lease of %s: %s", server, error)

    def _change(self, server: str, change: Callable[[_Claims], bool]) -> bool:
        """Compare and swap. change: alters the claims, and says whether that is to be written."""
        for _ in range(_MOST_RACES):
            name = object_name(f"server-{server}")
            lease = self.cluster.find("Lease", self.namespace, name)
            claims = _Claims.read(lease, self.clock())
            if not change(claims):
                return False
            try:
                self._write(lease, name, claims)
                return True
            except MovedError:
                continue
        raise MovedError(f"the lease of {server} is fought over: try again", 409)

    def _write(self, lease: Json | None, name: str, claims: _Claims) -> None:
        is_empty = not claims.holders and claims.stopper is None
        if lease is None and not is_empty:
            self.cluster.create(claims.written(self._new(name)))
        elif lease is not None and is_empty:
            self.cluster.delete(lease, unchanged=True)
        elif lease is not None:
            self.cluster.replace(claims.written(lease))

    def _new(self, name: str) -> Json:
        meta = {
            "name": name,
            "namespace": self.namespace,
            "labels": _LABELS,
        }
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
