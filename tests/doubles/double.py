"""What the doubles of systems outside have in common: a server on a loopback port, orders on standard input, faults.

A double is started with one argument, a file of JSON. It says `{"url": ...}` in one line on standard output, and then does
what the lines of JSON on its standard input tell it, answering each with one line. It ends when that input ends, so none
outlives the test that started it.

Orders: {"do": "misbehave", "fault": NAME, ...} for answers to come, {"do": "behave"}, {"do": "requests"} for all that was
asked so far, and those of the double itself. Of a fault: `times` (how many answers; absent: all), `after` (so many answers
are good first), `path` (what the path begins with) and `method`.
"""

import base64
import hmac
import json
import ssl
import sys
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_MAX = 64 << 20


class Answer:
    """What is answered: a status, a value for JSON or bytes, and headers."""

    def __init__(self, status, value=None, headers=None, content_type="application/json;charset=UTF-8", body=None):
        self.status = status
        self.headers = dict(headers or {})
        self.content_type = content_type
        if body is None:
            body = b"" if value is None else json.dumps(value, ensure_ascii=False).encode()
        self.body = body


class Request:
    """What was asked."""

    def __init__(self, method, target, headers, body):
        split = urllib.parse.urlsplit(target)
        self.method = method
        self.target = target
        self.path = urllib.parse.unquote(split.path)
        self.query = urllib.parse.parse_qs(split.query, keep_blank_values=True)
        self.headers = headers
        self.body = body

    def one(self, name, default=None):
        """The first value of a name in the query."""
        return self.query.get(name, [default])[0]

    def json(self):
        return json.loads(self.body.decode())


class Double:
    """A system outside. One request at a time is answered: what it keeps needs no further lock."""

    def __init__(self, seed):
        self.seed = seed
        self.url = None
        self.requests = []
        self.faults = []
        self.lock = threading.RLock()

    # What a double of its own has to say.

    def answer(self, request):
        raise NotImplementedError

    def unauthorized(self):
        return Answer(401, {"error": "not authorized"})

    def order(self, order):
        raise ValueError(f"no such order: {order.get('do')}")

    # The rest is the same for all.

    def basic(self, request):
        """The name of the account whose password was given, or None."""
        kind, _, rest = (request.headers.get("Authorization") or "").partition(" ")
        if kind.lower() != "basic":
            return None
        try:
            name, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
        except ValueError:
            return None
        wanted = self.seed.get("accounts", {}).get(name)
        good = wanted is not None and hmac.compare_digest(wanted.encode(), password.encode())
        return name if good else None

    def token(self, request, *kinds):
        """The name of the account whose token was given as one of these kinds, or None."""
        kind, _, rest = (request.headers.get("Authorization") or "").partition(" ")
        if kind.lower() not in [kind.lower() for kind in kinds]:
            return None
        return self.seed.get("tokens", {}).get(rest.strip())

    def fault(self, request):
        """The fault that this request meets, if any."""
        for fault in self.faults:
            if fault.get("times") == 0:
                continue
            if not request.path.startswith(fault.get("path", "/")):
                continue
            if fault.get("method", request.method) != request.method:
                continue
            if fault.get("after", 0) > 0:
                fault["after"] -= 1
                continue
            if "times" in fault:
                fault["times"] -= 1
            return fault
        return None

    def obey(self, order):
        with self.lock:
            match order["do"]:
                case "misbehave":
                    self.faults.append(order)
                    return {}
                case "behave":
                    self.faults = []
                    return {}
                case "requests":
                    return self.requests
                case _:
                    return self.order(order)

    def respond(self, request):
        """The answer, and how it is to be spoiled."""
        with self.lock:
            account = request.headers.get("Authorization", "")
            self.requests.append({"method": request.method, "target": request.target,
                                  "authorization": account.partition(" ")[0],
                                  "user_agent": request.headers.get("User-Agent", "")})
            fault = self.fault(request)
            if fault and fault["fault"] == "status":
                headers = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
                if fault["status"] == 401:
                    return self.unauthorized(), None
                headers.update(fault.get("headers", {}))
                return Answer(fault["status"], fault.get("value", {"error": {"message": "told to"}}), headers), None
            request.fault = fault["fault"] if fault else None
            return self.answer(request), fault


def handler(double):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "double"

        def log_message(self, *_):
            pass

        def serve(self):
            length = int(self.headers.get("Content-Length") or 0)
            if length > BODY_MAX:
                self.send_error(413)
                return
            request = Request(self.command, self.path, self.headers, self.rfile.read(length))
            try:
                answer, fault = double.respond(request)
            except Exception as error:  # noqa: BLE001 - whoever asked is to see that the double is wrong
                answer, fault = Answer(500, {"error": {"message": f"the double is wrong: {error!r}"}}), None
            kind = fault["fault"] if fault else None
            body = answer.body
            if kind == "hang":
                time.sleep(fault.get("seconds", 60))
            if kind == "close":
                self.close_connection = True
                return
            if kind == "malformed":
                body = body[: max(1, len(body) // 2)]
            if kind == "empty":
                body = b""
            if kind == "html":
                body, answer.content_type = b"<html><body>Sign in</body></html>", "text/html"
            if kind == "redirect":
                answer.status, body = 302, b""
                answer.headers["Location"] = fault["to"]
            if kind == "huge":
                body = b'{"result":["' + b"x" * fault.get("bytes", 1 << 20) + b'"]}'
            try:
                self.send_response(answer.status)
                if answer.status != 204:
                    self.send_header("Content-Type", answer.content_type)
                    self.send_header("Content-Length", str(len(body)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if kind == "truncated":
                    body = body[: len(body) // 2]
                    self.close_connection = True
                if self.command != "HEAD" and answer.status != 204:
                    self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = serve

    return Handler


def run(kind):
    """Runs the double that `kind` makes of what the file named on the command line holds."""
    with open(sys.argv[1], encoding="utf-8") as file:
        seed = json.load(file)
    double = kind(seed)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(double))
    server.daemon_threads = True
    scheme = "http"
    if "tls" in seed:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(seed["tls"]["certificate"], seed["tls"]["key"])
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "https"
    double.url = f"{scheme}://{seed.get('name', '127.0.0.1')}:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"url": double.url}), flush=True)
    for line in sys.stdin:
        try:
            answer = double.obey(json.loads(line))
        except Exception as error:  # noqa: BLE001 - the test is to see it
            answer = {"wrong": repr(error)}
        print(json.dumps(answer), flush=True)
