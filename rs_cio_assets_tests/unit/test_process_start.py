"""What a process pays before it does anything: each run that Dagster launches is a process of its own."""

from __future__ import annotations

import subprocess
import sys

from rs_cio_assets.settings import VARIABLES, environment

# dagster-aws brings Dagster's test utilities, its daemons and the components of every service it knows: a second of each run.
_LOADED = "import sys, rs_cio_assets.definitions; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def test_loading_the_definitions_imports_nothing_of_aws_that_a_local_store_does_not_need():
    """With the sandbox's settings, dagster_aws and the database migrations it drags in stay out of the process."""
    environ = {name: value for name, value in environment({}).items() if name not in VARIABLES}
    loaded = subprocess.run(
        [sys.executable, "-c", _LOADED], env=environ, capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"rs_cio_assets", "dagster"} <= set(loaded)
    assert set(loaded) & {"dagster_aws", "alembic", "sqlalchemy"} == set()
