"""All definitions. `feast apply` reads this file alone (`.feastignore` leaves out the others):
it would import each file once more under another name, and then see every object twice."""

from feature_repo.entities import customer, sender
from feature_repo.on_demand import email, email_text_statistics
from feature_repo.services import customer_churn, spam_detector
from feature_repo.sources import (
    customer_activity_push,
    customer_activity_source,
    customer_profile_source,
    sender_activity_source,
)
from feature_repo.views import customer_activity, customer_profile, sender_activity

__all__ = [
    "customer",
    "customer_activity",
    "customer_activity_push",
    "customer_activity_source",
    "customer_churn",
    "customer_profile",
    "customer_profile_source",
    "email",
    "email_text_statistics",
    "sender",
    "sender_activity",
    "sender_activity_source",
    "spam_detector",
]
