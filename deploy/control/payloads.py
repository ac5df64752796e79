"""What receivers of alerts read: Alertmanager's webhook JSON, and Slack's."""

import re
from typing import Any

from deploy.control.alert import Alert

Json = dict[str, Any]

_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time, as Alertmanager writes it
_COLOURS = {"critical": "#c0392b", "warning": "#e08e0b", "info": "#2b6cb0"}
_RESOLVED = "#2e8b57"
_SLACK_TEXT = 2900  # Slack refuses a section of more than 3000 characters


def alertmanager(alert: Alert, external_url: str) -> Json:
    """Version 4: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config"""
    status = "resolved" if alert.state == "resolved" else "firing"
    name = alert.labels["alertname"]
    return {
        "version": "4",
        "groupKey": f'{{}}:{{alertname="{name}", fingerprint="{alert.fingerprint}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "slipway",
        "groupLabels": {"alertname": name},
        "commonLabels": alert.labels,
        "commonAnnotations": alert.annotations,
        "externalURL": external_url,
        "alerts": [
            {
                "status": status,
                "labels": alert.labels,
                "annotations": alert.annotations,
                "startsAt": alert.starts_at or alert.since,
                "endsAt": alert.ends_at or _NEVER,
                "generatorURL": f"{external_url}/v1/alerts",
                "fingerprint": alert.fingerprint,
            }
        ],
    }


def slack(alert: Alert, external_url: str) -> Json:
    """An incoming webhook's message: https://api.slack.com/messaging/webhooks"""
    resolved = alert.state == "resolved"
    title = f"{'Resolved' if resolved else 'Firing'}: {alert.annotations['summary']}"
    lines = [f"*{escaped(title)}*", escaped(alert.annotations["description"])]
    lines.append(escaped(f"{alert.labels['alertname']} · {alert.annotations['runbook_url']}"))
    section = {"type": "section", "text": {"type": "mrkdwn", "text": _cut("\n".join(lines))}}
    colour = _RESOLVED if resolved else _COLOURS[alert.labels["severity"]]
    return {
        "text": _cut(escaped(title)),
        "attachments": [{"color": colour, "blocks": [section]}],
    }


def escaped(text: str) -> str:
    """Slack's three control characters: nobody's text becomes a link or calls a channel."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str) -> str:
    """Not longer than Slack takes, and not within an entity."""
    return text if len(text) <= _SLACK_TEXT else re.sub(r"&[a-z]*$", "", text[:_SLACK_TEXT]) + "…"
