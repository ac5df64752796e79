"""Feature services: what one model reads; the name stands in its YAML (`feature_service`)."""

from feast import FeatureService

from feature_repo.on_demand import email_text_statistics
from feature_repo.views import customer_activity, customer_profile, sender_activity

customer_churn = FeatureService(
    name="customer_churn",
    features=[customer_profile, customer_activity],
    description="The ten features of customer-churn.",
)

spam_detector = FeatureService(
    name="spam_detector",
    features=[sender_activity, email_text_statistics],
    description="The sender's features and the text's of spam-detector.",
)
