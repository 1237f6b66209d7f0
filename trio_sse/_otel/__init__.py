"""Spans of OpenTelemetry. The hub and the hosts see them by the protocol of `_hub/tracing.py`.

It may import `_hub` and what is below; and nothing else imports `opentelemetry`.
"""
