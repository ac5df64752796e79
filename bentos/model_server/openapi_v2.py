"""The Open Inference Protocol in the OpenAPI document, under this very model's name."""

from typing import Any
from urllib.parse import quote

import msgspec

from bentos.model_server.contract import Contract, version_label
from bentos.model_server.inference_metadata import ModelMetadata, ServerMetadata
from bentos.model_server.inference_request import InferRequest
from bentos.model_server.inference_response import InferResponse
from bentos.model_server.openapi_parts import Schema, content_of, get, post
from bentos.model_server.tensor_rows import DATATYPES


def v2_schemas() -> dict[str, Any]:
    """The documents of the protocol."""
    documents = [InferRequest, InferResponse, ModelMetadata, ServerMetadata]
    _, schemas = msgspec.json.schema_components(
        documents, ref_template="#/components/schemas/{name}"
    )
    return schemas


def example_request(contract: Contract) -> Schema:
    """One row: a tensor for each input of the contract's example that has a value."""
    return {
        "inputs": [
            {
                "name": field.name,
                "shape": [1],
                "datatype": DATATYPES[field.dtype],
                "data": [contract.example[field.name]],
            }
            for field in contract.inputs
            if contract.example.get(field.name) is not None
        ]
    }


def _model(contract: Contract, path: str, suffix: str) -> Schema:
    anything: Schema = {"application/json": {"schema": {"type": "object"}}}
    metadata = content_of("ModelMetadata")
    return {
        path: get(f"model_metadata{suffix}", "Inputs and outputs.", metadata, "404", "503"),
        f"{path}/ready": get(
            f"model_ready{suffix}", "Whether this model is ready.", anything, "404", "503"
        ),
        f"{path}/infer": post(
            f"infer{suffix}",
            "Tensors: one for each input, or one matrix where the metadata announces it.",
            "InferRequest",
            "InferResponse",
            example_request(contract),
            "404",
        ),
    }


def v2_paths(contract: Contract) -> Schema:
    """The protocol's paths."""
    anything: Schema = {"application/json": {"schema": {"type": "object"}}}
    path = f"/v2/models/{quote(contract.model)}"
    return {
        "/v2": get("server_metadata", "Server and extensions.", content_of("ServerMetadata")),
        "/v2/health/live": get("server_live", "Whether the process is alive.", anything),
        "/v2/health/ready": get("server_ready", "Whether to send requests here.", anything, "503"),
        **_model(contract, path, ""),
        **_model(
            contract,
            f"{path}/versions/{version_label(contract.version, contract.variant)}",
            "_of_version",
        ),
    }
