"""The demo: one command from an empty folder to a shop in the Customer.io stand-in, journeys that run, and the UI."""

from rs_cio_assets.demo.run import DemoOptions, run_demo
from rs_cio_assets.demo.sandbox import Ports, sandbox, wait_for_ui, wait_until_interrupted

__all__ = ["DemoOptions", "Ports", "run_demo", "sandbox", "wait_for_ui", "wait_until_interrupted"]
