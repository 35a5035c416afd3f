"""A proxy in front of a tracking server that damages some of its requests."""

import http.client
import random
import socket
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# What becomes of a request that is spoilt. "before": it does not reach the server; "after": it
# does.
FATES = ("500 before", "500 after", "cut", "delayed", "dropped before", "dropped after")
DELAY_SECONDS = (0.5, 2.0)
# headers that belong to one connection
OF_A_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class FlakyProxy:
    """Proxy on 127.0.0.1 that forwards requests to a port of this machine, inside a `with`.

    fates: Number of requests per fate; "passed on" counts the undamaged ones.
    """

    def __init__(self, upstream: int, share: float = 0.1, seed: int = 0) -> None:
        """Damage a share of the requests, drawn with a seed in the order of arrival."""
        self.upstream = upstream
        self.fates: Counter[str] = Counter()
        self._share = share
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> "FlakyProxy":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def uri(self) -> str:
        """Address of the server through the proxy."""
        return f"http://127.0.0.1:{self.port}"

    def fate(self) -> tuple[str, float]:
        """Return the fate of the next request, and its delay in seconds."""
        with self._lock:
            spoilt = self._draw.random() < self._share
            fate = self._draw.choice(FATES) if spoilt else "passed on"
            self.fates[fate] += 1
            return fate, self._draw.uniform(*DELAY_SECONDS) if fate == "delayed" else 0.0


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    owner: FlakyProxy

    def handle_one_request(self) -> None:
        """Handle a request like the base class; a killed client closes the connection."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fate, delay = self.owner.fate()
        time.sleep(delay)
        if fate == "dropped before":
            return self._drop()
        if fate == "500 before":
            return self._answer(500, {}, b"spoilt", 6)
        status, headers, answer = self._ask(body)
        if fate == "dropped after":
            return self._drop()
        if fate == "500 after":
            return self._answer(500, {}, b"spoilt", 6)
        sent = answer[: len(answer) // 2] if fate == "cut" else answer
        self._answer(status, headers, sent, len(answer))
        return self._drop() if fate == "cut" else None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Return the server's answer: status, headers, body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.owner.upstream, timeout=60)
        try:
            wanted = {k: v for k, v in self.headers.items() if k.lower() not in OF_A_CONNECTION}
            connection.request(self.command, self.path, body or None, wanted)
            answer = connection.getresponse()
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in OF_A_CONNECTION}
            return answer.status, kept, answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, length: int) -> None:
        """Send a body with a given content length."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def _drop(self) -> None:
        """Close the connection before the end of the answer."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""
