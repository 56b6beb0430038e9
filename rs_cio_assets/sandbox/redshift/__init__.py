"""The Redshift stand-in: real PostgreSQL behind a wire that the unmodified Redshift driver speaks to."""

from rs_cio_assets.sandbox.redshift.stand_in import RedshiftStandIn, serve

__all__ = ["RedshiftStandIn", "serve"]
