"""The demo shops behind the Redshift stand-in: a made-up skincare brand, and the CDNOW purchase file."""

from rs_cio_assets.sandbox.shop.cdnow import load_cdnow
from rs_cio_assets.sandbox.shop.shop import AdvanceReport, advance_shop, ensure_shop
from rs_cio_assets.sandbox.shop.tables import ShopState

__all__ = ["AdvanceReport", "ShopState", "advance_shop", "ensure_shop", "load_cdnow"]
