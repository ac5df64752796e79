"""Entities: what features are about, and the join keys by which they are looked up."""

from feast import Entity, ValueType

customer = Entity(
    name="customer",
    join_keys=["customer_id"],
    value_type=ValueType.INT64,
    description="Somebody with an account.",
)

sender = Entity(
    name="sender",
    join_keys=["sender"],
    value_type=ValueType.STRING,
    description="The address that an e-mail came from.",
)
