"""What a container misses of a Secret, and the command that puts it there."""

import json
import re

from deploy.manifests.names import Json

# The kubelet's words, with the reason CreateContainerConfigError.
_NO_KEY = re.compile(r"couldn't find key (\S+) in Secret ([^/\s]+)/(\S+)")
_NO_SECRET = re.compile(r'secret "([^"]+)" not found')


def missing_secret(pod: Json, container: str, said: str) -> str | None:
    """One sentence; None where the words are about something else."""
    if found := _NO_KEY.search(said):
        key, namespace, secret = found.groups()
        patch = json.dumps({"stringData": {key: "…"}}, ensure_ascii=False)
        return (
            f"Secret {secret} in namespace {namespace} has no key {key}: "
            f"`kubectl -n {namespace} patch secret {secret} --patch '{patch}'`"
        )
    if found := _NO_SECRET.search(said):
        secret, namespace = found[1], pod["metadata"].get("namespace", "default")
        keys = _keys(pod, container, secret)
        literals = "".join(f" --from-literal={key}=…" for key in keys)
        return (
            f"there is no Secret {secret} in namespace {namespace}, of which it needs "
            f"{', '.join(keys)}: `kubectl -n {namespace} create secret generic {secret}{literals}` "
            "(docs/kubernetes.md has what else is in it)"
        )
    return None


def _keys(pod: Json, container: str, secret: str) -> list[str]:
    """Those without which the container does not start."""
    spec = pod["spec"]
    variables = [
        variable.get("valueFrom", {}).get("secretKeyRef", {})
        for each in (*spec["containers"], *spec.get("initContainers", ()))
        if each["name"] == container
        for variable in each.get("env", ())
    ]
    return [
        reference["key"]
        for reference in variables
        if reference.get("name") == secret and not reference.get("optional")
    ]
