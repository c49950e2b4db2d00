"""Knows how a WSGI application is served on this machine for the length of a block.
Must not know which application it is.
"""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from werkzeug.serving import make_server

PATIENCE = 10.0  # seconds for the server to answer at first, and to stop in the end


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serves the application on a free port, and gives its address once it answers."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line for each request is too many
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)) as connection:
            connection.request("HEAD", "/")
            connection.getresponse().read()
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()
