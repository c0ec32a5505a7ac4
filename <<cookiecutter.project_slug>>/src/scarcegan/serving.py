"""The endpoint on this machine: POST /invocations, GET /ping, data capture. It answers like a SageMaker endpoint.

data/wire.py reads requests and writes answers; the scorer (model/scorer.py) computes the scores.
"""

import asyncio
import errno
import gc
import html
import ipaddress
import json
import logging
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from scarcegan.batches import Batches
from scarcegan.data.categories import Categories, texts_of
from scarcegan.data.wire import (
    JSON,
    RequestError,
    ScoreRequest,
    accepted_kind,
    content_kind,
    read_request,
    render_scores,
)
from scarcegan.errors import UserError, shortened
from scarcegan.jsonfile import read_json
from scarcegan.model.saved import EXPORT_AGAIN
from scarcegan.model.scorer import Scores
from scarcegan.monitoring.data_capture import Capture
from scarcegan.monitoring.rows import INFERENCE_ID
from scarcegan.monitoring.statistics import category_buckets, typical_row

MAX_BYTES = 6 * 2**20  # largest request that a real-time endpoint in SageMaker accepts
SMALL_BYTES = 2**16  # a larger body is answered by itself, beside the small ones
MOST_TOGETHER = 64  # small requests that one call of the model answers
MOST_REQUESTS = 128  # under way at the same time; their bodies are in memory
HEADER_SECONDS = 10  # for the headers of a request
BODY_SECONDS = 30  # for its body
ANSWER_SECONDS = 60  # for the caller to take its answer
DRAIN_SECONDS = 20
TURN_SECONDS = 0.0005  # that a busy thread keeps the interpreter from the one that answers /ping
ALL_ADDRESSES = ("0.0.0.0", "::")
HTTP_PORT = 80
T = TypeVar("T")


class Model(Protocol):
    """A loaded model, such as a Scorer (model/scorer.py).

    `score` takes raw rows, float32 [n, d], NaN for missing, and returns their Scores in the same order.

    - names: of the d features; None: they are assumed to be the model's features, in its order.

    It raises UserError when d, the names or their order differ from the model's features.
    """

    def score(self, values: np.ndarray, names: Sequence[str] | None = None) -> Scores: ...


@dataclass(frozen=True)
class PackageFacts:
    """What the endpoint knows of the model package that it serves.

    - version: the package's version number as text.
    - group: the name of its group; "" when it is not known.
    - definition: the name of the business definition of its model.
    - classes: class names, the rare class last.
    - features: names of the model's inputs, in order.
    - typical: a typical value per feature, in the same order, for the example request; of a category, a text.
    - categories: {feature name: {text: code}} of the features that are categories.
    """

    version: str
    group: str
    definition: str
    classes: tuple[str, ...]
    features: tuple[str, ...]
    typical: tuple[float | str, ...]
    categories: Categories = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The package as text for messages, such as "version 3 (best_ranking) of players".

        "players" is its group; without one, " of players" is left out.
        """
        return f"version {self.version} ({self.definition})" + (f" of {self.group}" if self.group else "")


@dataclass(frozen=True)
class Question:
    """A request to /invocations, received whole.

    - body: as it came.
    - kind, wanted: content type of the body and of the answer, the constant JSON or CSV.
    - headers: of the request, with names in lower case.
    """

    body: bytes
    kind: str
    wanted: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Hosts:
    """The names under which the server may be called, so that no web page can call it under a name of its own.

    The headers Host and Origin show a page that sends requests here, also when its name has become this machine's.
    https://owasp.org/www-community/attacks/DNS_Rebinding

    - exact: names with port, in lower case, as Host has them: "127.0.0.1:8080".
    - names: names and addresses that are allowed with any port.
    - any_address: whether every IP address is allowed: a page has a name.
    """

    exact: frozenset[str]
    names: frozenset[str] = frozenset()
    any_address: bool = False

    def allow(self, host: str) -> bool:
        """Whether a server may be called so. host: the header Host in lower case."""
        if host in self.exact:
            return True
        name = re.sub(r":\d+$", "", host).strip("[]")
        return name in self.names or (self.any_address and is_address(name))


def hosts_of(host: str, listener: socket.socket, allowed: Sequence[str] = ()) -> Hosts:
    """Return the names under which a server may be called: those of the address that it listens at, and those allowed.

    A server that listens at all addresses may be called by each of them, by localhost, and with any port, because a
    container's port is often published as another one. Clients leave HTTP's own port out of the header Host.
    https://www.rfc-editor.org/rfc/rfc9110#section-4.2.3

    - host: the address to listen at, as the user gave it.
    - allowed: more names, without a port.
    """
    address, port = listener.getsockname()[:2]
    more = {name.lower() for name in allowed}
    if address in ALL_ADDRESSES:
        return Hosts(frozenset(), frozenset({"localhost", *more}), any_address=True)
    names = {host.lower(), address, *(("localhost", "127.0.0.1", "::1") if is_loopback(address) else ())}
    written = {f"[{name}]" if ":" in name else name for name in names}
    without_port = written if port == HTTP_PORT else set()
    return Hosts(frozenset({*without_port, *(f"{name}:{port}" for name in written)}), frozenset(more))


def is_address(name: str) -> bool:
    """Whether a text is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    """Whether an IP address is reached from this machine only."""
    return ipaddress.ip_address(address).is_loopback


class Guard:
    """Refuses (403) requests under another name than the server's, and those of web pages of another origin.

    - app: what answers all others.
    - endpoint: whose `hosts` say which names are the server's.
    """

    def __init__(self, app: ASGIApp, endpoint: "Endpoint") -> None:
        self.app, self.endpoint = app, endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self.problem(scope)
        if problem:
            await JSONResponse({"error": problem}, 403)(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def problem(self, scope: Scope) -> str:
        """Return why a request is refused, "" when it is not."""
        hosts = self.endpoint.hosts
        if hosts is None:
            return ""
        host = origin = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
        called = host.decode("latin-1").lower()
        if not hosts.allow(called):
            return (
                f"This server may not be called as '{shortened(called)}'. Use the address that it printed, or start it "
                "with --allow-host NAME."
            )
        if origin and origin.decode("latin-1").lower().partition("://")[2] != called:
            return "A web page of another origin may not ask this server. Ask it from a program."
        return ""


class Endpoint:
    """Answers requests with a model, which may still be loading. Starlette calls its coroutines.

    Small requests that wait at the same time are answered by one call of the model. Rows are read and scored in
    threads, one for small requests and one for large ones, so that /ping is answered meanwhile.

    - facts: of the model package that is served.
    - capture: the object that records requests and answers; None: nothing is recorded.
    - max_bytes: larger request bodies are refused.
    - model: the loaded model, set by `serve_package`; None while it is loading.
    - url: the address for the example request; "" takes the one that the request was sent to.
    - hosts: the names under which it may be called, set by `serve_package`; None: any.
    """

    def __init__(self, facts: PackageFacts, capture: Capture | None = None, max_bytes: int = MAX_BYTES) -> None:
        self.facts, self.capture, self.max_bytes = facts, capture, max_bytes
        self.model: Model | None = None
        self.url = ""
        self.hosts: Hosts | None = None
        self._small, self._large = Batches(self.answers, MOST_TOGETHER), Batches(self.answers, 1)
        self._under_way = 0
        self._capture_failed = False

    def close(self) -> None:
        """End the threads of the model, each as soon as its present call has ended. Call it once the server has."""
        for batches in (self._small, self._large):
            batches.close()

    def app(self) -> Starlette:
        """Return the web application with its paths, error handlers and guard."""
        return Starlette(
            routes=[
                Route("/invocations", self.invocations, methods=["POST"]),
                Route("/ping", self.ping),
                Route("/", self.about),
            ],
            exception_handlers={
                RequestError: self.on_request_error,
                HTTPException: self.on_http_error,
                ClientDisconnect: self.on_disconnect,
                Exception: self.on_failure,
            },
            middleware=[Middleware(Guard, endpoint=self)],
        )

    async def ping(self, request: Request) -> Response:
        """Answer GET /ping with status 200, and in JSON {"status": "ready", "version": …}.

        Raises RequestError (503) while the model is loading.
        """
        if self.model is None:
            raise RequestError("The model is still being loaded. Ask again in a few seconds.", 503)
        return JSONResponse({"status": "ready", "version": self.facts.version})

    async def invocations(self, request: Request) -> Response:
        """Answer POST /invocations with the scores of the rows in the body.

        The body is JSON or CSV, as the header Content-Type says, and the answer as the header Accept asks; JSON where
        Accept is missing. Request and answer are recorded as `record` does.

        Raises RequestError for an unknown or missing content type (415), an Accept header with no known type (406), a
        compressed body (415), and a body that is too large (413), arrives too slowly (408), cannot be read (400), or
        comes while the model is loading or MOST_REQUESTS others are under way (503).
        """
        if self._under_way >= MOST_REQUESTS:
            raise RequestError(f"{MOST_REQUESTS} requests are being answered. Send this one again in a second.", 503)
        self._under_way += 1
        try:
            question = await self.question(request)
            batches = self._small if len(question.body) <= SMALL_BYTES else self._large
            return Response(await batches.result(question), media_type=question.wanted)
        finally:
            self._under_way -= 1

    async def question(self, request: Request) -> Question:
        """Receive a request and return it. Raises RequestError as `invocations`, for all but an unreadable body."""
        kind = content_kind(request.headers.get("content-type", ""))
        wanted = accepted_kind(request.headers.get("accept", ""))
        if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise RequestError("A compressed body is not supported. Send it uncompressed.", 415)
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return Question(await self.body(request), kind, wanted, request.headers)
        except TimeoutError:
            raise RequestError(f"The body did not arrive within {BODY_SECONDS} seconds. Send it again.", 408) from None

    async def body(self, request: Request) -> bytes:
        """Read the body of a request and return it.

        A caller who is still sending would not receive the answer, so a body that is too large is first read to its
        end, or up to ten times `max_bytes`, and dropped.

        Raises RequestError (413) for a body of more than `max_bytes`.
        """
        body, size = bytearray(), 0
        async for chunk in request.stream():
            size += len(chunk)
            if size <= self.max_bytes:
                body += chunk
            elif size > 10 * self.max_bytes:
                break
        if size > self.max_bytes:
            raise RequestError(
                f"The body is larger than {self.max_bytes:,} bytes. Send the rows in several requests.", 413
            )
        return bytes(body)

    def answers(self, questions: Sequence[Question]) -> list[str | Exception]:
        """Score the rows of several requests by one call of the model and return the body of each answer, in order.

        Both are recorded as `record` does. In place of an answer there is a RequestError for a body that cannot be read
        (400) or while the model is loading (503), and the exception of whatever else failed for this request alone.

        Raises the exception of the model.
        """
        read = [caught(self.read, one) for one in questions]
        rows = [one.values for one in read if isinstance(one, ScoreRequest)]
        scores = iter(self.score_together(rows) if rows else [])
        return [
            found if isinstance(found, Exception) else caught(self.answer, question, found, next(scores))
            for question, found in zip(questions, read, strict=True)
        ]

    def read(self, question: Question) -> ScoreRequest:
        """Return the rows of a request. Raises RequestError as `answers` says."""
        if self.model is None:
            raise RequestError("The model is still being loaded. Ask again in a few seconds.", 503)
        try:
            text = question.body.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise RequestError("The body is not UTF-8 text. Send JSON or CSV, encoded in UTF-8.") from None
        return read_request(text, question.kind, self.facts.features, self.facts.categories)

    def score_together(self, rows: Sequence[np.ndarray]) -> list[Scores]:
        """Return the Scores of each of several tables of rows, float32 [n, d], after one call of the model."""
        assert self.model is not None
        scores = self.model.score(np.concatenate(rows))
        columns = (scores.probabilities, scores.rarity, scores.unknown, scores.label)
        ends = np.cumsum([len(table) for table in rows])[:-1]
        return [Scores(*parts) for parts in zip(*(np.split(column, ends) for column in columns), strict=True)]

    def answer(self, question: Question, asked: ScoreRequest, scores: Scores) -> str:
        """Return the body of the answer to a request, and record both.

        - asked, scores: the rows of the request, and their Scores.
        """
        answer = render_scores(scores, asked, question.wanted)
        kind, called = question.headers.get("content-type", question.kind), question.headers.get(INFERENCE_ID, "")
        self.record((kind, question.body.decode("utf-8-sig")), (question.wanted, answer), header_text(called))
        return answer

    def record(self, asked: tuple[str, str], answered: tuple[str, str], inference_id: str) -> None:
        """Record a request and its answer, each as (content type, body). Without a `capture`, nothing is recorded.

        The capture records only some of the requests, by chance (see `capture_percentage` of serve_package). A failed
        write raises nothing. It is reported on stderr; the next ones are not, until a request passes without one.

        - inference_id: the caller's own id of the request; "" for none.
        """
        try:
            if self.capture:
                self.capture.record(asked, answered, inference_id)
            self._capture_failed = False
        except OSError as error:
            if not self._capture_failed:
                print_line(f"data capture failed ({error.strerror}: {error.filename}); requests are still answered.")
            self._capture_failed = True

    async def about(self, request: Request) -> Response:
        """Answer GET / with what is served and an example request: HTML if the header Accept names it, else JSON."""
        facts = {
            **{name: getattr(self.facts, name) for name in ("group", "version", "definition")},
            "labels": dict(enumerate((*self.facts.classes, "unknown"))),
            "features": self.facts.features,
            **({"categories": self.facts.categories} if self.facts.categories else {}),
            "csv_answer": ["label", "rarity", "unknown", *(f"probability_{name}" for name in self.facts.classes)],
            "example": example_request(self.facts, self.url or str(request.base_url).rstrip("/")),
        }
        browser = "text/html" in request.headers.get("accept", "").lower()
        return HTMLResponse(about_page(facts)) if browser else JSONResponse(facts)

    async def on_request_error(self, request: Request, error: Exception) -> Response:
        """Answer a request that was refused with a RequestError: with its HTTP status, and {"error": sentence}.

        TensorFlow Serving answers in the same form.
        """
        assert isinstance(error, RequestError)
        more = {408: {"Connection": "close"}, 503: {"Retry-After": "1"}}  # the rest of a late body is not waited for
        return JSONResponse({"error": error.words}, error.status, more.get(error.status))

    async def on_http_error(self, request: Request, error: Exception) -> Response:
        """Answer a request to an unknown path (status 404) or with another method (405), with {"error": sentence}."""
        assert isinstance(error, HTTPException)
        words = {
            404: f"Unknown path {request.url.path}. Use POST /invocations, GET /ping or GET /.",
            405: f"{request.method} is not allowed for {request.url.path}. Use POST /invocations, GET /ping or GET /.",
        }
        return JSONResponse({"error": words.get(error.status_code, error.detail)}, error.status_code, error.headers)

    async def on_disconnect(self, request: Request, error: Exception) -> Response:
        """Return an answer, status 400, for a caller who closed the connection before the request was complete."""
        return JSONResponse({"error": "The connection was closed before the request was complete. Send it again."}, 400)

    async def on_failure(self, request: Request, error: Exception) -> Response:
        """Answer after an unexpected exception: status 500 and {"error": sentence}. The traceback goes to stderr."""
        return JSONResponse({"error": "The model failed on this request. See the server's log for the reason."}, 500)


def header_text(value: str) -> str:
    """Return the text of a header that Starlette has read as Latin-1: callers send UTF-8 (curl) or Latin-1 (Python)."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeDecodeError:
        return value


def caught(function: Callable[..., T], *arguments: Any) -> T | Exception:
    """Return the result of function(*arguments), or the exception that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def about_page(facts: Mapping[str, Any]) -> str:
    """Return the HTML page for GET /. Names and values are escaped.

    - facts: name -> value, what Endpoint.about collects; "definition", "version" and "example" must be among them.
    """
    title = html.escape(f"{facts['definition']}, version {facts['version']}")
    rows = "".join(
        f"<dt>{html.escape(name.replace('_', ' '))}<dd>{', '.join(html.escape(str(item)) for item in items_of(value))}"
        for name, value in facts.items()
        if name != "example"
    )
    style = (
        ":root{color-scheme:light dark}body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "dt{font-weight:600;margin-top:.6rem}dd{margin:0;overflow-wrap:anywhere}pre{white-space:pre-wrap;overflow-wrap:anywhere}"
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{style}</style>"
        f"<h1>{title}</h1><dl>{rows}</dl><h2>Example request</h2><pre>{html.escape(facts['example'])}</pre>"
    )


def items_of(value: Any) -> list[Any]:
    """Return a value as a list: the items of a list or tuple, texts "key = value" of a mapping, or the value alone."""
    if isinstance(value, Mapping):
        return [f"{key} = {name}" for key, name in value.items()]
    return list(value) if isinstance(value, list | tuple) else [value]


def example_request(facts: PackageFacts, url: str) -> str:
    """Return a curl command, quoted for a shell, that sends the typical user (facts.typical) as JSON to the endpoint.

    - url: of the endpoint, http://HOST:PORT.
    """
    cells = (json.dumps(value) if isinstance(value, str) else f"{value:.4g}" for value in facts.typical)
    row = ", ".join(cells).replace("'", "'\\''")  # as a shell takes it
    return f"curl -s {url}/invocations -H 'Content-Type: {JSON}' -d '{{\"instances\": [[{row}]]}}'"


# -- starting it ----------------------------------------------------------------------------------------------------


def read_package_facts(package: Path) -> PackageFacts:
    """Return what the endpoint must know of a model package, read from the package's folder. Loads no model.

    - package: the folder that the package was exported to. Without a package.json there, the version is "0", the group
      "", and the definition that of model.json. Without a baseline, the typical values are 0.

    Raises UserError when model/model.json or model/1/saved_model.pb is missing there, a file is not JSON, or model.json
    has no classes or features.
    """
    model = read_json(package / "model" / "model.json", EXPORT_AGAIN)
    for key in ("classes", "features"):
        if key not in model:
            raise UserError(f"{package / 'model' / 'model.json'}: no '{key}' in it. {EXPORT_AGAIN}")
    if not (package / "model" / "1" / "saved_model.pb").is_file():
        raise UserError(f"{package}: no model/1/saved_model.pb in it. {EXPORT_AGAIN}")
    facts = read_json(package / "package.json", EXPORT_AGAIN) if (package / "package.json").is_file() else {}
    baseline = package / "baseline" / "statistics.json"
    statistics = {"features": []} | (read_json(baseline, EXPORT_AGAIN) if baseline.is_file() else {})
    return PackageFacts(
        version=str(facts.get("version", "0")),
        group=str(facts.get("group", "")),
        definition=str(facts.get("definition", model.get("definition", "model"))),
        classes=tuple(model["classes"]),
        features=tuple(model["features"]),
        typical=typical_user(statistics, model["features"]),
        categories=texts_of(model),
    )


def typical_user(statistics: Mapping[str, Any], features: Sequence[str]) -> tuple[float | str, ...]:
    """Return one value per feature: its mean in the baseline, or a category's most frequent text; 0 if there is
    neither.

    - statistics: the content of baseline/statistics.json.
    - features: names of the model's inputs; the values are in their order.
    """
    buckets = {column["name"]: category_buckets(column) for column in statistics["features"]}
    means = typical_row(statistics, features)
    return tuple(
        buckets[name][0]["value"] if buckets.get(name) else mean for name, mean in zip(features, means, strict=True)
    )


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at an address of this machine; the caller closes it. Port 0 takes a free port.

    Raises UserError, with what to do, when the address or the port cannot be used.
    """
    if not 0 <= port <= 65535:
        raise UserError(f"port {port} does not exist. Choose one from 1024 to 65535: --port 8080.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"{host}:{port} is not an address of this machine ({error}). Use --host 127.0.0.1.") from None
    family, kind, protocol, _, address = found[0]
    # asyncio sends small answers at once (TCP_NODELAY) only if the protocol is named; without it each costs 40 ms.
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is in use. Stop what uses it, or take a free one: --port 0.") from None
        if error.errno == errno.EACCES:
            raise UserError(
                f"port {port} is reserved for the administrator. Choose one above 1023: --port 8080."
            ) from None
        raise UserError(f"{host}:{port} cannot be listened on ({error.strerror}). Use --host 127.0.0.1.") from None
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket, such as http://127.0.0.1:8080, for use on this machine.

    A socket that listens at all addresses (0.0.0.0 or ::) gets a URL with 127.0.0.1 or ::1.
    """
    host, port = listener.getsockname()[:2]
    host = dict(zip(ALL_ADDRESSES, ("127.0.0.1", "::1"), strict=True)).get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def load_model(folder: Path) -> Model:
    """Load the model in a folder and return it, ready to answer. What is in memory by then is never garbage-collected.

    - folder: the folder model of a model package.

    Raises UserError when a file of the model is missing or damaged.
    """
    from scarcegan.model import scorer

    model = scorer.load_scorer(folder)
    gc.collect()
    gc.freeze()  # or a large body could set off a walk through all that TensorFlow has loaded: 0.2 s without /ping
    return model


def serve_package(
    package: Path,
    host: str = "127.0.0.1",
    *,
    port: int,
    capture: Path | None = None,
    capture_percentage: float,
    max_bytes: int = MAX_BYTES,
    allowed_hosts: Sequence[str] = (),
    load: Callable[[Path], Model] = load_model,
) -> None:
    """Serve a model package until SIGINT or SIGTERM; requests under way get up to DRAIN_SECONDS to be answered first.

    - package: the folder that the package was exported to.
    - host, port: the address to listen on; port 0 takes a free one.
    - capture: the folder below which requests are recorded, in <version>/yyyy/mm/dd/hh/ (UTC); None records none.
    - capture_percentage: the chance, 0 to 100, that a request is recorded.
    - max_bytes: larger request bodies are refused.
    - allowed_hosts: names, beside those of the address, under which the server may be called.
    - load: a function that loads the model from the folder model of the package.

    The port is opened before TensorFlow is loaded. The address and an example request are printed to stderr.

    Raises UserError when the folder is no package or the address or port cannot be used, and the error of `load` when
    that fails.
    """
    facts = read_package_facts(package)
    recorder = Capture(capture / facts.version, capture_percentage) if capture else None
    endpoint = Endpoint(facts, recorder, max_bytes)
    listener = listen(host, port)
    endpoint.url, endpoint.hosts = url_of(listener), hosts_of(host, listener, allowed_hosts)
    server = server_of(endpoint)
    failure: list[Exception] = []

    def prepare() -> None:
        try:
            endpoint.model = load(package / "model")
        except Exception as error:
            failure.append(error)
            server.should_exit = True
            return
        print_line(f"{facts.name} answers at {endpoint.url}  (stop: Ctrl-C)")
        print_line(f"try: {example_request(facts, endpoint.url)}")

    print_line(f"loading {facts.name} …")
    threading.Thread(target=prepare, daemon=True).start()
    run_until_signal(lambda: server.run(sockets=[listener]))
    endpoint.close()
    if failure:
        raise failure[0]
    print_line("stopped.")


class Connection(HttpToolsProtocol):
    """uvicorn's side of a connection, which is closed when the headers of a request take longer than HEADER_SECONDS.

    Neither uvicorn's own keep-alive time-out nor Starlette sees a request before its headers are complete. It is also
    closed when the caller has not taken what was answered after ANSWER_SECONDS. uvicorn's time-out would wait for it.
    """

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._late = self.loop.call_later(HEADER_SECONDS, transport.close)
        self._not_taken: asyncio.TimerHandle | None = None
        transport.set_write_buffer_limits(0)  # pause_writing is then called as soon as anything is left to send

    def pause_writing(self) -> None:
        super().pause_writing()
        self._not_taken = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_answer()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that cannot be parsed in the form of all errors, and close the connection."""
        words = "its address or length cannot be read, or a header holds a control character, such as NUL"
        body = json.dumps({"error": f"This is no valid HTTP request: {words}. Correct it and send it again."}).encode()
        head = f"HTTP/1.1 400 Bad Request\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\nConnection: close"
        self.transport.write(head.encode() + b"\r\n\r\n" + body)
        self.transport.close()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()  # raises when the address cannot be read; no request is then under way
        self._late.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._late.cancelled() and self.cycle.response_complete:  # the first bytes of the next request
            self._late = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def connection_lost(self, error: Exception | None) -> None:
        self._late.cancel()
        self._forget_answer()
        super().connection_lost(error)

    def _forget_answer(self) -> None:
        """Cancel the timer that closes the connection when the caller does not take an answer."""
        if self._not_taken:
            self._not_taken.cancel()


def server_of(endpoint: Endpoint) -> uvicorn.Server:
    """Return the server of an endpoint, here and in tests: its `run` takes the sockets to listen at.

    From then on, the threads of this process take turns of TURN_SECONDS.
    """
    sys.setswitchinterval(TURN_SECONDS)
    settings = uvicorn.Config(
        endpoint.app(),
        http=Connection,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        lifespan="off",
        ws="none",
    )
    return uvicorn.Server(settings)


def run_until_signal(run: Callable[[], None]) -> None:
    """Run a server that shuts down on SIGINT or SIGTERM, and return normally when it has.

    - run: a function without arguments that runs the server until it has shut down.

    In the main thread, the process survives the signal, and the former signal handlers are restored; in another thread,
    signals are left alone. uvicorn's messages below a warning are switched off for good.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    if threading.current_thread() is not threading.main_thread():
        run()
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    # uvicorn raises the signal again after its shutdown; these handlers then ignore it.
    before = {each: signal.signal(each, lambda *_: None) for each in signals}
    try:
        run()
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def print_line(words: str) -> None:
    """Print a message to stderr at once."""
    print(words, file=sys.stderr, flush=True)
