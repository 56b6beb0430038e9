"""The Customer.io stand-in: Track API and the App API's read side as published, over SQLite, with a page to look people up."""

from rs_cio_assets.sandbox.customerio.server import CustomerioStandIn, create_app, serve
from rs_cio_assets.sandbox.customerio.ways_back import WaysBack, ways_back

__all__ = ["CustomerioStandIn", "WaysBack", "create_app", "serve", "ways_back"]
