"""A server at the level of bytes: what is answered need not be HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Self


class HostileServer:
    """Answers every request with the same bytes, perhaps without end, then closes the connection."""

    def __init__(self) -> None:
        self.answer: Callable[[], Iterable[bytes]] = lambda: ()
        #: Seconds between two pieces of an answer.
        self.pause = 0.0

    def __enter__(self) -> Self:
        self._stopping = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as request:
            try:
                while request.readline() not in (b"\r\n", b""):
                    pass
                for piece in self.answer():
                    connection.sendall(piece)
                    if self._stopping.wait(self.pause):
                        return
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                return  # the client has had enough
