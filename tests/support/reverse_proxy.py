"""A reverse proxy as operators put it before Airflow: one path of a site, and nothing else."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import requests

HOP_BY_HOP = {"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"}


class ReverseProxy:
    """
    Sends what lies below a path to another server, path included, and answers 404 to all else.

    :param path: such as ``/team/airflow``
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.target = ""
        #: Paths outside that were asked for.
        self.strays: list[str] = []

    def __enter__(self) -> Self:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if not self.path.startswith(f"{proxy.path}/"):
                    proxy.strays.append(self.path)
                    self.send_error(404)
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with requests.Session() as session:
                    session.trust_env = False
                    answer = session.request(
                        self.command,
                        proxy.target + self.path,
                        headers=dict(self.headers),
                        data=body,
                        allow_redirects=False,
                        timeout=60,
                    )
                self.send_response(answer.status_code)
                for name, value in answer.raw.headers.items():
                    if name.lower() not in HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_POST = do_PATCH = do_PUT = do_DELETE = do_GET  # noqa: N815 - as BaseHTTPRequestHandler calls them

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}{self.path}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
