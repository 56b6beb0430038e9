"""JSON Schema of the contract's files, so that editors complete and check them while they are typed."""

from __future__ import annotations

import json
from typing import Any

from rs_cio_assets.contract.models import Feed, Workspace


def feed_schema() -> dict[str, Any]:
    """Schema of feeds/<name>.yaml. The name and the SQL come from the files' names, so they are not fields."""
    schema = Feed.model_json_schema()
    for name in ("name", "sql"):
        del schema["properties"][name]
        schema["required"].remove(name)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def workspace_schema() -> dict[str, Any]:
    """Schema of workspace.yaml."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Workspace.model_json_schema()}


def schema_files() -> dict[str, str]:
    """File name -> content, as they are shipped beside workspace.yaml."""
    return {
        name: json.dumps(schema, indent=1, sort_keys=True) + "\n"
        for name, schema in (("feed.schema.json", feed_schema()), ("workspace.schema.json", workspace_schema()))
    }
