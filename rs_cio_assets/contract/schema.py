"""JSON Schema of the contract's files, so that editors complete and check them while they are typed."""

from __future__ import annotations

import json
from typing import Any

from rs_cio_assets.contract.models import Feed, Workspace
from rs_cio_assets.contract.segments import Declared, Journey, Logic, Segment


def feed_schema() -> dict[str, Any]:
    """Schema of feeds/<name>.yaml. The name and the SQL come from the files' names, so they are not fields."""
    schema = Feed.model_json_schema()
    for name in ("name", "sql"):
        del schema["properties"][name]
        schema["required"].remove(name)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def declared_schema(model: type[Declared]) -> dict[str, Any]:
    """Schema of a segment's, a journey's or a query's YAML; what comes from the files' names and SQL is no field."""
    schema = model.model_json_schema()
    schema["properties"] = {n: p for n, p in schema["properties"].items() if n not in {"name", "sql", "never_sql"}}
    schema["required"] = [name for name in schema["required"] if name in schema["properties"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def workspace_schema() -> dict[str, Any]:
    """Schema of workspace.yaml."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Workspace.model_json_schema()}


def schema_files() -> dict[str, str]:
    """File name -> content, as they are shipped beside workspace.yaml."""
    return {
        name: json.dumps(schema, indent=1, sort_keys=True) + "\n"
        for name, schema in (
            ("feed.schema.json", feed_schema()),
            ("segment.schema.json", declared_schema(Segment)),
            ("journey.schema.json", declared_schema(Journey)),
            ("logic.schema.json", declared_schema(Logic)),
            ("workspace.schema.json", workspace_schema()),
        )
    }
