"""Tests of rs_cio_assets."""
