"""Settings to the things that assets and checks call: the warehouse, the store, Customer.io.

Nothing here opens a connection; AWS clients come from dagster-aws so that one credential chain serves all. It is imported on
first use: every run is a process of its own, and a local store with a password needs none of it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from rs_cio_assets.settings import Settings
from rs_cio_assets.store import open_store
from rs_cio_assets.warehouse import Warehouse


def resources_for(settings: Settings) -> dict[str, Any]:
    """The resources of the definitions, by name: `warehouse`, `store`, `customerio`."""
    aws_region = settings.redshift.aws_region

    def read_secret(secret_id: str) -> Mapping[str, str]:
        from dagster_aws.secretsmanager import SecretsManagerResource  # noqa: PLC0415 - slow to import

        client = SecretsManagerResource(region_name=aws_region).get_client()
        return json.loads(client.get_secret_value(SecretId=secret_id)["SecretString"])

    @functools.cache  # the store and UNLOAD's files share it: to make one takes a quarter of a second
    def s3_client() -> Any:
        from dagster_aws.s3 import S3Resource  # noqa: PLC0415 - slow to import

        keys = (settings.s3.access_key_id, settings.s3.secret_access_key)
        access_key_id, secret_access_key = (key.get_secret_value() if key else None for key in keys)
        return S3Resource(
            region_name=settings.s3.region or aws_region,
            endpoint_url=settings.s3.endpoint_url,
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key,
        ).get_client()

    return {
        "warehouse": Warehouse(settings.redshift, secret=read_secret, s3_client=s3_client),
        "store": open_store(settings.store, s3_client=s3_client),
        "customerio": settings.customerio,
    }
