"""Limits of Customer.io's APIs, each with its source and the margin taken. Names and values of attributes: contract/models.py."""

from __future__ import annotations

# "32kb or smaller" per operation and "500kb or smaller" per request: Track API document (journeys-track.json, read
# 2026-08-13). "kb" may mean 1,000 bytes; Customer.io's own Python client keeps to 475,000 per request.
OPERATION_BYTES = 32_000
BATCH_BYTES = 475_000
# Bodies of at least this size take about as long as each other, so that their latency says something about Customer.io.
STEADY_BYTES = BATCH_BYTES // 2

# 10 requests per second, one bucket for all callers of a workspace: App API document (read 2026-09-17).
APP_REQUESTS_PER_S = 10.0
# Ids per POST /v1/customers/attributes, and activities per page: App API document (read 2026-09-17).
ATTRIBUTES_IDS = 100
ACTIVITIES_PAGE = 100
# Members of a segment a page, messages a page: App API document (read 2026-09-17).
MEMBERS_PAGE = 30_000
MESSAGES_PAGE = 1_000
