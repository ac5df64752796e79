"""On-demand feature views: features made from the request, by the same code in training and
serving."""

import inspect
from typing import Any

from feast import Field, OnDemandFeatureView, RequestSource
from feast.types import Float64, Int64, String

email = RequestSource(
    name="email",
    schema=[Field(name="email_content", dtype=String)],
    description="What only the request knows of an e-mail.",
)


def text_statistics(inputs: dict[str, Any]) -> dict[str, Any]:
    """Columns in, columns out (Feast's mode "python"); a text that is None has no statistics.

    Feast stores this function's source and runs it without this module, so it names nothing
    outside itself.
    """
    import re

    links = re.compile(r"https?://(?:www\.)?|\bwww\.", re.IGNORECASE)
    columns: dict[str, list[int | float | None]] = {
        "text_length": [],
        "word_count": [],
        "capitals_share": [],
        "digits_share": [],
        "link_count": [],
        "exclamation_count": [],
    }
    for text in inputs["email_content"]:
        if text is None:
            for column in columns.values():
                column.append(None)
            continue
        length = len(text)
        columns["text_length"].append(length)
        columns["word_count"].append(len(text.split()))
        columns["capitals_share"].append(sum(map(str.isupper, text)) / max(length, 1))
        columns["digits_share"].append(sum(map(str.isdecimal, text)) / max(length, 1))
        columns["link_count"].append(len(links.findall(text)))
        columns["exclamation_count"].append(text.count("!"))
    return columns


email_text_statistics = OnDemandFeatureView(
    name="email_text_statistics",
    sources=[email],
    # Without descriptions: Feast compares these with what it infers from the function.
    schema=[
        Field(name="text_length", dtype=Int64),
        Field(name="word_count", dtype=Int64),
        Field(name="capitals_share", dtype=Float64),
        Field(name="digits_share", dtype=Float64),
        Field(name="link_count", dtype=Int64),
        Field(name="exclamation_count", dtype=Int64),
    ],
    udf=text_statistics,
    udf_string=inspect.getsource(text_statistics),
    mode="python",
    description="What an e-mail's text looks like.",
)
