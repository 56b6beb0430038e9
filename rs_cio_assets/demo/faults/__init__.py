"""Faults of the catalogue (docs/faults.md) that can be planted in the sandbox: for `make demo FAULT=<id>` and for the tests."""

from rs_cio_assets.demo.faults.contract import CONTRACT_FAULTS
from rs_cio_assets.demo.faults.customerio import CUSTOMERIO_FAULTS
from rs_cio_assets.demo.faults.planting import Caught, copy_contract, plant
from rs_cio_assets.demo.faults.scene import Fault, Scene
from rs_cio_assets.demo.faults.warehouse import WAREHOUSE_FAULTS

FAULTS = {fault.id: fault for fault in (*WAREHOUSE_FAULTS, *CUSTOMERIO_FAULTS, *CONTRACT_FAULTS)}

__all__ = ["FAULTS", "Caught", "Fault", "Scene", "copy_contract", "plant"]
