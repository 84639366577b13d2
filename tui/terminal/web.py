"""The same view in a browser on this machine, by textual-serve (the extra `web`)."""

from __future__ import annotations

import errno
import logging
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence

from tracer.errors import TracerError
from tracer.text import clean

HOST = "127.0.0.1"
PORT = 8000


def serve(command: Sequence[str], title: str, port: int = PORT) -> None:
    """Serve the view that `command` shows, anew to each browser window, until Ctrl-C.

    TracerError where textual-serve is missing or the port is taken. Only pages that this server itself sent may talk
    to it: other sites that are open in the browser could reach the address as well. And these pages load nothing from
    elsewhere, not even textual-serve's font.
    """
    try:
        from aiohttp import web
        from textual_serve.server import Server
    except ImportError:
        raise TracerError(
            "--web needs textual-serve, which is not installed: pip install 'deeplift-tracer[web]'"
        ) from None
    address = f"http://{HOST}:{port}"
    hosts = (f"{HOST}:{port}", f"localhost:{port}")
    origins = tuple(f"http://{host}" for host in hosts)
    sources = f"{' '.join(origins)} {' '.join(f'ws://{host}' for host in hosts)} 'unsafe-inline' data: blob:"
    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

    @web.middleware
    async def own_pages_only(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.host not in hosts or request.headers.get("Origin", address) not in origins:
            raise web.HTTPForbidden(text="deeplift-tracer serves its own pages only")
        response = await handler(request)
        if not response.prepared:
            response.headers["Content-Security-Policy"] = f"default-src {sources}"
        return response

    class QuietServer(Server):
        def initialize_logging(self) -> None:
            logging.basicConfig(level=logging.ERROR, format="%(message)s", stream=sys.stderr)

        async def on_startup(self, app: web.Application) -> None:
            print(f"{clean(title)} at {address} (Ctrl-C ends)", file=sys.stderr, flush=True)

        async def _make_app(self) -> web.Application:
            app: web.Application = await super()._make_app()
            app.middlewares.append(own_pages_only)
            return app

    _check_port(port)
    line = subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)
    server = QuietServer(line, host=HOST, port=port, title=clean(title), public_url=address)
    try:
        server.serve()
    except OSError as error:
        raise _refused(port, error) from None


def _check_port(port: int) -> None:
    """TracerError if the port cannot be used. Asked first, because the server prints its address before it listens."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise _refused(port, error) from None


def _refused(port: int, error: OSError) -> TracerError:
    if error.errno == errno.EADDRINUSE:
        return TracerError(f"port {port} is taken by another program: give another one with --port")
    return TracerError(f"cannot serve at port {port} ({error.strerror}): give another one with --port")
