"""Which tables and views the contract's SQL reads, for grants. Text is read as the linter reads it; nothing is parsed."""

from __future__ import annotations

import re

from rs_cio_assets.contract.lint import FUNCTION_FROM, OPAQUE
from rs_cio_assets.contract.lint_nesting import COMMA_TABLE, is_in_from
from rs_cio_assets.contract.models import Contract

_NAME = r"(\w+|\"[^\"]+\")"
_TABLE = re.compile(rf"(?<!DISTINCT )\b(?:FROM|JOIN)\s+{_NAME}\s*\.\s*{_NAME}", re.IGNORECASE)


def tables_of(sql: str) -> frozenset[str]:
    """What a SELECT reads, as schema.name in lower case. A name without a schema is that of a WITH (the linter sees to it)."""
    words = OPAQUE.sub(" ", sql)
    found = {
        ".".join(name.strip('"').lower() for name in table.groups())
        for table in _TABLE.finditer(words)
        if not FUNCTION_FROM.search(words[: table.start()])
    }
    listed = {
        f"{table[1]}{table[2]}".lower() for table in COMMA_TABLE.finditer(words) if table[2] and is_in_from(words, table.start())
    }
    return frozenset(found | listed)


def tables_of_views(contract: Contract) -> frozenset[str]:
    """What the export views of the enabled feeds read: their owner needs SELECT on it."""
    return frozenset[str]().union(*(tables_of(feed.sql) for feed in contract.enabled_feeds))


def tables_of_questions(contract: Contract) -> frozenset[str]:
    """What the user of the sync reads for its checks beside export views: the SQL of segments, journeys and recomputations."""
    declared = (*contract.segments, *contract.journeys, *contract.logic)
    queries = (*(item.sql for item in declared), *(journey.never_sql or "" for journey in contract.journeys))
    return frozenset[str]().union(*map(tables_of, queries)) - {feed.view for feed in contract.enabled_feeds}
