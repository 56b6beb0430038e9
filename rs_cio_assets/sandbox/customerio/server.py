"""The stand-in as an application and as a process on 127.0.0.1. State survives a restart, and a SIGKILL."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from rs_cio_assets.errors import ConfigurationError
from rs_cio_assets.sandbox.customerio.app_api import app_routes
from rs_cio_assets.sandbox.customerio.campaigns import campaign_routes
from rs_cio_assets.sandbox.customerio.controls import control_routes
from rs_cio_assets.sandbox.customerio.explorer import explorer_routes
from rs_cio_assets.sandbox.customerio.journeys import Journeys
from rs_cio_assets.sandbox.customerio.rate_limit import APP_REQUESTS_PER_S
from rs_cio_assets.sandbox.customerio.segments import segment_routes
from rs_cio_assets.sandbox.customerio.track_api import track_routes
from rs_cio_assets.sandbox.customerio.ways_back import WaysBack
from rs_cio_assets.sandbox.customerio.workspace import Workspace
from rs_cio_assets.sandbox.serving import serve_until_ended
from rs_cio_assets.settings import SANDBOX_DEFAULTS

START_TIMEOUT_S = 20.0
_NOT_FOUND = "<!DOCTYPE html><html><head><title>Not found</title></head><body><h1>404: page not found</h1></body></html>"


def create_app(
    database: Path,
    *,
    clock: Callable[[], float] = time.time,
    app_requests_per_s: float | None = APP_REQUESTS_PER_S,
    back: WaysBack | None = None,
) -> Starlette:
    """The application over the state in the file *database*, taking the sandbox's default credentials.

    *app_requests_per_s* None: the App API has no limit. *back*: links of the pages to Dagster's UI.
    """
    workspace = Workspace(database, clock)
    journeys = Journeys(workspace)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        workspace.close()

    async def not_found(_request: Request, _error: Exception) -> Response:
        return HTMLResponse(_NOT_FOUND, 404)  # as the live hosts do for any wrong path or method

    return Starlette(
        routes=[
            *track_routes(workspace, SANDBOX_DEFAULTS["CUSTOMERIO_SITE_ID"], SANDBOX_DEFAULTS["CUSTOMERIO_API_KEY"]),
            *app_routes(workspace, SANDBOX_DEFAULTS["CUSTOMERIO_APP_API_KEY"], app_requests_per_s, journeys.look),
            *explorer_routes(workspace, journeys.look, back or WaysBack()),
            *campaign_routes(workspace, journeys.reload),
            *segment_routes(workspace),
            *control_routes(workspace),
        ],
        exception_handlers={404: not_found, 405: not_found},
        lifespan=lifespan,
    )


class CustomerioStandIn:
    """The stand-in in a thread of this process, on a port of its own. State in *data_dir* survives a restart.

    *wrap* may put a layer around the application: tests record requests or answer for it there.
    Raises on start: ConfigurationError when the port is taken.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        clock: Callable[[], float] = time.time,
        app_requests_per_s: float | None = APP_REQUESTS_PER_S,
        back: WaysBack | None = None,
        wrap: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    ) -> None:
        self.port = port
        self._data_dir, self._clock, self._wrap = data_dir, clock, wrap
        self._app_requests_per_s, self._back = app_requests_per_s, back
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Base address of both APIs and of the page."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it; it answers when this returns."""
        self._data_dir.mkdir(parents=True, exist_ok=True)
        listener = _listen(self.port)
        self.port = listener.getsockname()[1]
        database, limit = self._data_dir / "workspace.db", self._app_requests_per_s
        app = self._wrap(create_app(database, clock=self._clock, app_requests_per_s=limit, back=self._back))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on"))
        self._server = server
        self._thread = threading.Thread(target=server.run, args=([listener],), name="customerio-stand-in", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ConfigurationError(
                    "the Customer.io stand-in did not start", next_step="read its log, which names the reason"
                )
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """End it, after the requests under way."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(START_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """True while it answers."""
        return self._thread is not None and self._thread.is_alive()


def serve(data_dir: Path, port: int, back: WaysBack | None = None) -> None:
    """Run the stand-in until SIGINT, SIGTERM, or the end of the process that started this one."""
    stand_in = CustomerioStandIn(data_dir, port, back=back)
    serve_until_ended(stand_in, lambda: f"Customer.io stand-in ready on {stand_in.url}")


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise ConfigurationError(
            f"port {port} for Customer.io is in use",
            next_step="stop what uses it, or choose another: make demo CUSTOMERIO_PORT=<port>",
        ) from None
    return listener
