"""A scoring server for entry scripts, on Python's standard library alone.

It keeps the contract of an Azure ML scoring container, so that a score.py written
for v1 runs in a base image made of nothing but a Python:

    AML_APP_ROOT            the code's folder; /var/azureml-app when unset
    AZUREML_ENTRY_SCRIPT    the script, relative to it; score.py when unset
    AZUREML_MODEL_DIR       the script's own business: it reads its model from there
    SERVER_PORT             5001 when unset

    init()                  once, before the port opens; an exception ends the process
    run(body)               once a request, one at a time; gets the body's text, and
                            request_headers= if it takes that; returns what json can write

    GET  /                  200 "Healthy", also while run() is at work
    POST /score             200 and run()'s result as JSON
                            500 and x-ms-run-function-failed: True when run() raised
    GET  /swagger.json      the app root's swagger2.json (or ?version=3: swagger3.json)
"""

import importlib.util
import inspect
import json
import os
import signal
import socketserver
import sys
import threading
import time
import traceback
import urllib.parse
from http.server import BaseHTTPRequestHandler

# The cap of the nginx in v1's own base images.
MAX_BODY_BYTES = 100 << 20
# A header line, or the size line of a chunk, is never longer than this.
MAX_LINE_BYTES = 64 << 10


class BodyError(Exception):
    """A body that cannot be read; status is the answer to it."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


class Script:
    """The entry script: loaded, and initialised once."""

    def __init__(self, app_root, entry_script):
        path = os.path.join(app_root, entry_script)
        # Imports of the script's neighbours work as they did in v1.
        for folder in (os.path.dirname(path), app_root):
            if folder not in sys.path:
                sys.path.insert(0, folder)
        spec = importlib.util.spec_from_file_location("entry_module", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        for name in ("init", "run"):
            if not callable(getattr(module, name, None)):
                raise TypeError(f"{entry_script} has no function {name}()")
        self._run = module.run
        self._wants_headers = "request_headers" in inspect.signature(module.run).parameters
        # One request at a time, like one synchronous worker: scripts are not
        # written for threads. Health checks do not come through here.
        self._turn = threading.Lock()
        module.init()

    def run(self, body, headers):
        extra = {"request_headers": headers} if self._wants_headers else {}
        with self._turn:
            return json.dumps(self._run(body, **extra)).encode()


class Work:
    """Counts the requests in flight, so that SIGTERM lets them finish."""

    def __init__(self):
        self._changed = threading.Condition()
        self._count = 0

    def __enter__(self):
        with self._changed:
            self._count += 1

    def __exit__(self, *_):
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def wait(self, seconds):
        with self._changed:
            self._changed.wait_for(lambda: self._count == 0, seconds)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds a client may be silent
    # Headers and body are two writes: Nagle would hold back the second for 40 ms.
    disable_nagle_algorithm = True

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/":
            return self.answer(200, b"Healthy", "text/plain; charset=utf-8")
        if url.path == "/swagger.json":
            return self.swagger(urllib.parse.parse_qs(url.query).get("version", ["2"])[0])
        return self.fail(405 if url.path == "/score" else 404)

    def do_POST(self):
        with self.server.work:
            self.post()

    def post(self):
        begin = time.perf_counter()
        if urllib.parse.urlsplit(self.path).path != "/score":
            return self.fail(404)
        try:
            body = self.body().decode("utf-8")
        except UnicodeDecodeError:
            return self.fail(400, "the body is not UTF-8")
        except BodyError as error:
            return self.fail(error.status, str(error))
        headers = {}
        request_id = self.headers.get("x-ms-client-request-id")
        if request_id:
            headers["x-ms-client-request-id"] = request_id
        try:
            result, status = self.server.script.run(body, dict(self.headers)), 200
        except (Exception, SystemExit) as error:  # whatever the script raises is its client's 500
            traceback.print_exc()
            result, status = json.dumps({"error": str(error)}).encode(), 500
            headers["x-ms-run-function-failed"] = "True"
        headers["x-ms-run-fn-exec-ms"] = f"{(time.perf_counter() - begin) * 1000:.3f}"
        return self.answer(status, result, "application/json", headers)

    def body(self):
        """The request's body, by length or in chunks, never more than MAX_BODY_BYTES."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self.chunks()
        try:
            length = int(self.headers["Content-Length"])
        except (TypeError, ValueError):
            raise BodyError(411, "the request has no Content-Length") from None
        return self.exactly(length)

    def chunks(self):
        body = bytearray()
        while True:
            line = self.rfile.readline(MAX_LINE_BYTES)
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError:
                raise BodyError(400, "a chunk has no size") from None
            if size == 0:
                while self.rfile.readline(MAX_LINE_BYTES) not in (b"\r\n", b"\n", b""):
                    pass  # trailers
                return bytes(body)
            body += self.exactly(size, len(body))
            self.rfile.readline(MAX_LINE_BYTES)

    def exactly(self, length, before=0):
        if length < 0:
            raise BodyError(400, "a length below 0")
        if before + length > MAX_BODY_BYTES:
            raise BodyError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        data = self.rfile.read(length)
        if len(data) < length:
            raise BodyError(400, "the body ends too early")
        return data

    def swagger(self, version):
        name = {"2": "swagger2.json", "3": "swagger3.json"}.get(version)
        try:
            with open(os.path.join(self.server.app_root, name or ""), "rb") as file:
                return self.answer(200, file.read(MAX_BODY_BYTES), "application/json")
        except OSError:
            return self.fail(404)

    def fail(self, status, text=None):
        # The body may not have been read: what follows on this connection is not a request.
        self.close_connection = True
        text = text or self.responses[status][0]
        body = json.dumps({"error": text}).encode()
        self.answer(status, body, "application/json", {"Connection": "close"})

    def answer(self, status, body, content_type, headers=None):
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": len(body), **(headers or {})}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self):
        return "amlaks-python"

    def log_message(self, format, *args):
        print(self.address_string(), format % args, flush=True)


class Server(socketserver.ThreadingTCPServer):
    # Not http.server's own: that one asks the DNS for this host's name first.
    allow_reuse_address = True
    # A thread belongs to a connection, and a front end's idle ones stay open for
    # long: at the end only what Work counts is waited for.
    daemon_threads = True
    request_queue_size = 128


def main(host="", port=None):
    app_root = os.environ.get("AML_APP_ROOT", "/var/azureml-app")
    script = Script(app_root, os.environ.get("AZUREML_ENTRY_SCRIPT", "score.py"))
    if port is None:
        port = int(os.environ.get("SERVER_PORT", "5001"))
    with Server((host, port), Handler) as server:
        server.script, server.app_root, server.work = script, app_root, Work()
        # shutdown() waits for serve_forever(), which this very thread is in.
        stop = lambda *_: threading.Thread(target=server.shutdown).start()
        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        print(f"listening on port {server.server_address[1]}", flush=True)
        server.serve_forever(poll_interval=0.1)
        server.work.wait(20)  # below Kubernetes' 30 s of grace


if __name__ == "__main__":
    main()
