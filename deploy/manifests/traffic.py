"""How a cluster's gateway shares the traffic: routes for whichever API the settings name.

docs/traffic.md says what each of them cannot express.
"""

from collections.abc import Callable

from deploy.gateway.routes import Routing
from deploy.manifests import gateway_api, istio, nginx
from deploy.manifests.route_parts import Json, on_cluster
from serving_config.schema import Configuration

_APIS: dict[str, Callable[[Routing, Configuration], list[Json]]] = {
    "gateway-api": gateway_api.http_routes,
    "istio": istio.virtual_services,
    "nginx": nginx.ingresses,
}


def route_objects(routing: Routing, configuration: Configuration) -> list[Json]:
    """All routes, of every environment that runs on the cluster, and nothing else: what is there
    under the same labels (`app.kubernetes.io/component: route`) and not among these is stale.

    UnroutableError says what the API cannot express where another answer than our own gateway's
    would be given.
    """
    render = _APIS[configuration.platform.kubernetes.traffic]
    return render(on_cluster(routing, configuration), configuration)
