"""What is wrong with pods, one by one: rights, resources, probes, ports and mounts.

Rights: https://kubernetes.io/docs/concepts/security/pod-security-standards/ (restricted), and a
root file system that nobody writes to.
"""

from collections.abc import Iterator

from deploy.manifests.catalog import Finding, Json, PodTemplate
from serving_config.kubernetes import amount

_VOLUMES = {
    *("name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def pod_findings(template: PodTemplate) -> Iterator[Finding]:
    """All that is wrong with the pods of one object."""
    yield from _pod_rights(template)
    yield from _volumes(template)
    for field, container in template.containers:
        yield from _container_rights(field, container, template.spec.get("securityContext", {}))
        yield from _resources(field, container.get("resources", {}))
        yield from _mounts(field, container, template)
        yield from _ports(field, container)
    yield from _grace(template)
    if template.is_serving:
        for container in template.spec["containers"]:
            field = f"{template.path}.containers[{container['name']}]"
            yield from _probes_there(field, container)


def _pod_rights(template: PodTemplate) -> Iterator[Finding]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if template.spec.get(name):
            yield f"{template.path}.{name}", "gives the node away: leave it out"
    if "automountServiceAccountToken" not in template.spec:
        field = f"{template.path}.automountServiceAccountToken"
        yield field, "is left out, which is true: say false, or true for who asks the API server"


def _container_rights(field: str, container: Json, of_pod: Json) -> Iterator[Finding]:
    own = container.get("securityContext", {})
    context, field = {**of_pod, **own}, f"{field}.securityContext"
    if context.get("runAsNonRoot") is not True:
        yield f"{field}.runAsNonRoot", "is not true: set it"
    if context.get("runAsUser") == 0:
        yield f"{field}.runAsUser", "is 0, which is root: name another user"
    if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield f"{field}.seccompProfile.type", "is not restricted: set RuntimeDefault"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{field}.allowPrivilegeEscalation", "is not false: set it"
    if own.get("privileged"):
        yield f"{field}.privileged", "is true: leave it out"
    if own.get("readOnlyRootFilesystem") is not True:
        yield f"{field}.readOnlyRootFilesystem", "is not true: set it, and mount what is written to"
    if own.get("procMount", "Default") != "Default":
        yield f"{field}.procMount", "is not Default: leave it out"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield f"{field}.capabilities.drop", "does not name ALL: drop them all"
    if added := set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield f"{field}.capabilities.add", f"has {min(added)}: leave it out"


def _volumes(template: PodTemplate) -> Iterator[Finding]:
    for volume in template.spec.get("volumes", ()):
        field = f"{template.path}.volumes[{volume['name']}]"
        if other := set(volume) - _VOLUMES:
            yield f"{field}.{min(other)}", "is no kind of volume that is allowed: use emptyDir"
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        if "emptyDir" in volume and limit is None:
            yield f"{field}.emptyDir.sizeLimit", "is left out: the node's disk is the limit; set it"
        elif limit is not None:
            yield from _amount(f"{field}.emptyDir.sizeLimit", limit)


def _amount(field: str, quantity: object) -> Iterator[Finding]:
    try:
        amount(str(quantity))
    except ValueError as error:
        yield field, f"{quantity!r} {error}"


def _resources(field: str, resources: Json) -> Iterator[Finding]:
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    field = f"{field}.resources"
    for kind, name in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        if name not in resources.get(kind, {}):
            yield f"{field}.{kind}.{name}", "is left out: say how much"
    wrong = [
        finding
        for kind, quantities in (("requests", requests), ("limits", limits))
        for name, quantity in quantities.items()
        for finding in _amount(f"{field}.{kind}.{name}", quantity)
    ]
    yield from wrong
    for name in requests.keys() & limits.keys() if not wrong else ():
        if amount(str(limits[name])) < amount(str(requests[name])):
            text = f"is {limits[name]}, below the {requests[name]} requested: raise it"
            yield f"{field}.limits.{name}", text


def _mounts(field: str, container: Json, template: PodTemplate) -> Iterator[Finding]:
    volumes = {volume["name"] for volume in template.spec.get("volumes", ())}
    paths = set()
    for mount in container.get("volumeMounts", ()):
        place = f"{field}.volumeMounts[{mount['name']}]"
        if mount["name"] not in volumes:
            yield place, "names a volume that the pod does not have: add it, or leave it out"
        if mount["mountPath"] in paths:
            yield f"{place}.mountPath", f"{mount['mountPath']} is another one's too: choose another"
        paths.add(mount["mountPath"])


def _ports(field: str, container: Json) -> Iterator[Finding]:
    declared: set[object] = set()
    for port in container.get("ports", ()):
        if port.get("hostPort"):
            yield f"{field}.ports[{port['containerPort']}].hostPort", "is the node's: leave it out"
        declared |= {port["containerPort"], port.get("name")}
    for name in _PROBES:
        probe = container.get(name, {})
        for kind in ("httpGet", "tcpSocket", "grpc"):
            port = probe.get(kind, {}).get("port")
            if port is not None and port not in declared:
                text = f"{port} is none of the container's ports: name one of them"
                yield f"{field}.{name}.{kind}.port", text


def _probes_there(field: str, container: Json) -> Iterator[Finding]:
    for name in ("readinessProbe", "livenessProbe"):
        if name not in container:
            yield f"{field}.{name}", "is missing: add it, or nobody sees that it hangs"


def _grace(template: PodTemplate) -> Iterator[Finding]:
    grace = template.spec.get("terminationGracePeriodSeconds", 30)
    for field, container in template.containers:
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if sleep >= grace:
            text = f"is {sleep}, not below terminationGracePeriodSeconds {grace}: raise that"
            yield f"{field}.lifecycle.preStop.sleep.seconds", text
