"""The Customer.io stand-in: Track API and the App API's read side as published, over SQLite, with a page to look people up."""

from rs_cio_assets.sandbox.customerio.server import CustomerioStandIn, create_app, serve

__all__ = ["CustomerioStandIn", "create_app", "serve"]
