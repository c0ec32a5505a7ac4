"""The endpoint: what it answers, what it refuses and how it says so, what it records, how it starts and stops."""

import asyncio
import contextlib
import gc
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import anyio
import httpx
import numpy as np
import pytest
from uvicorn.server import ServerState

from scarcegan import serving
from scarcegan.data import categories, wire
from scarcegan.errors import UserError
from scarcegan.model.scorer import Scores
from scarcegan.monitoring.data_capture import Capture
from scarcegan.serving import (
    Endpoint,
    Hosts,
    PackageFacts,
    example_request,
    hosts_of,
    listen,
    load_model,
    read_package_facts,
    serve_package,
)

FEATURES = ("sessions", "minutes", "deposits")
CLASSES = ("dormant", "normal", "risky")
FACTS = PackageFacts("3", "risky-players", "best_ranking", CLASSES, FEATURES, (2.5, 40.0, 0.0))
TWO_ROWS = {"instances": [[0.25, 1, 2], [0.75, float("nan"), 2]]}


class Model:
    """Rarity is the first feature, unknown whether the second is missing."""

    features = FEATURES
    bug = False

    def score(self, values: np.ndarray, names: Sequence[str] | None = None) -> Any:
        if self.bug:
            raise RuntimeError("a bug")
        assert values.dtype == np.float32
        rarity, missing = values[:, 0], np.isnan(values[:, 1]).astype(np.float32)
        probabilities = np.stack([1 - rarity, 0 * rarity, rarity], axis=1)
        return SimpleNamespace(
            probabilities=probabilities, rarity=rarity, unknown=missing, label=np.where(rarity > 0.5, 2, 0)
        )


class Client:
    """Calls an endpoint without a network, one request at a time."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.transport = httpx.ASGITransport(endpoint.app(), raise_app_exceptions=False)

    def request(self, method: str, path: str, content: str | bytes = b"", **headers: str) -> httpx.Response:
        async def call() -> httpx.Response:
            async with httpx.AsyncClient(transport=self.transport, base_url="http://test") as client:
                return await client.request(method, path, content=content, headers=headers)

        return anyio.run(call)

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.request("GET", path, **headers)


@pytest.fixture
def endpoint(tmp_path: Path) -> Endpoint:
    endpoint = Endpoint(FACTS, Capture(tmp_path / "captured"), max_bytes=2000)
    endpoint.model = Model()
    return endpoint


@pytest.fixture
def client(endpoint: Endpoint) -> Client:
    return Client(endpoint)


def ask(client: Client, body: object, kind: str = "application/json", **headers: str) -> httpx.Response:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.request("POST", "/invocations", content, **{"Content-Type": kind, **headers})


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.rglob("*.jsonl")) for line in path.read_text().splitlines()]


# -- answers --------------------------------------------------------------------------------------------------------


def test_rows_are_answered_in_the_row_format_of_tensorflow_serving(client: Client) -> None:
    answer = ask(client, TWO_ROWS)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "predictions": [
            {"probabilities": [0.75, 0.0, 0.25], "rarity": 0.25, "unknown": 0.0, "label": 0},
            {"probabilities": [0.25, 0.0, 0.75], "rarity": 0.75, "unknown": 1.0, "label": 2},
        ]
    }


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [{"features": [0.25, 1, 2]}, {"features": [0.75, float("nan"), 2]}]},
        {"signature_name": "serving_default", **TWO_ROWS},
    ],
)
def test_named_instances_and_the_signatures_name_are_taken(client: Client, body: object) -> None:
    assert ask(client, body).json() == ask(client, TWO_ROWS).json()


@pytest.mark.parametrize("inputs", [TWO_ROWS["instances"], {"features": TWO_ROWS["instances"]}])
def test_columns_are_answered_in_the_column_format(client: Client, inputs: object) -> None:
    assert ask(client, {"inputs": inputs}).json() == {
        "outputs": {
            "probabilities": [[0.75, 0.0, 0.25], [0.25, 0.0, 0.75]],
            "rarity": [0.25, 0.75],
            "unknown": [0.0, 1.0],
            "label": [0, 2],
        }
    }


@pytest.mark.parametrize(
    "body",
    ["0.25,1,2\n0.75,,2\n", "0.25, 1, 2\r\n0.75,NaN,2", '"0.25","1","2"\n\n0.75, nan ,2.0e0', "\ufeff.25,1,2\n.75,,2"],
)
def test_csv_rows_are_taken_with_empty_fields_missing(client: Client, body: str) -> None:
    assert ask(client, body, "text/csv").json() == ask(client, TWO_ROWS).json()


def test_csv_is_given_when_it_is_accepted(client: Client) -> None:
    answer = ask(client, TWO_ROWS, Accept="text/csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text == "0,0.25,0.0,0.75,0.0,0.25\n2,0.75,1.0,0.25,0.0,0.75\n"


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "application/*;q=0.9", "text/html, application/json", ""]
)
def test_json_is_given_to_everybody_else(client: Client, accept: str) -> None:
    assert ask(client, TWO_ROWS, Accept=accept).json()["predictions"][0]["label"] == 0


def test_numbers_are_as_short_as_they_can_be(client: Client) -> None:
    assert '"rarity": 0.1,' in ask(client, {"instances": [[0.1, 1, 2]]}).text


# -- refusals -------------------------------------------------------------------------------------------------------

REFUSED = [
    ({"instances": [[1, 2]]}, "Row 1 has 2 values, the model has 3 features"),
    ({"instances": [[1, 2, 3], [1, 2, 3, 4]]}, "Row 2 has 4 values, the model has 3 features"),
    ({"instances": [[1, "two", 3]]}, "Row 1, feature 'minutes': \"two\" is not a number"),
    ({"instances": [[1, 2, 3], [1, 2, True]]}, "Row 2, feature 'deposits': true is not a number"),
    ({"instances": [[1, 2, [3]]]}, "Row 1, feature 'deposits': [3] is not a number"),
    ({"instances": [[1, None, 3]]}, "Row 1, feature 'minutes': null. Write a missing value as NaN"),
    ({"instances": [[1, float("inf"), 3]]}, "Row 1, feature 'minutes': infinite or too large"),
    ('{"instances": [[1, 2, 1e999]]}', "Row 1, feature 'deposits': infinite or too large"),
    ({"instances": [[1, 2, 10**400]]}, "Row 1, feature 'deposits': infinite or too large"),
    ({"instances": [[1, 2, 1e39]]}, "Row 1, feature 'deposits': infinite or too large"),
    ({"instances": []}, "No rows"),
    ({"inputs": {"features": []}}, "No rows"),
    ({"instances": [1, 2, 3]}, "Rows must be lists of numbers"),
    ({"instances": "rows"}, "Rows must be lists of numbers"),
    ({"instances": {"features": [[1, 2, 3]]}}, "Rows must be lists of numbers"),
    ({"inputs": 7}, "Rows must be lists of numbers"),
    ({"instances": [{"sessions": 1}]}, 'The model has one input, "features"'),
    ({"inputs": {"x": [[1, 2, 3]]}}, 'The model has one input, "features"'),
    ({"signature_name": "other", **TWO_ROWS}, 'There is one signature, "serving_default"'),
    ({}, 'either "instances" (rows) or "inputs"'),
    ({"instances": [[1, 2, 3]], "inputs": [[1, 2, 3]]}, 'either "instances" (rows) or "inputs"'),
    ([[1, 2, 3]], 'either "instances" (rows) or "inputs"'),
    ("", "The body is not JSON"),
    ('{"instances": [[1, 2', "The body is not JSON"),
    ("[" * 1900, "The body is not JSON"),
    ("9" * 1900, 'either "instances" (rows) or "inputs"'),
    (b"\xff\xfe\x00", "The body is not UTF-8 text"),
    (r'{"instances": [[1, "\ud800", 3]]}', "The body holds half a character"),
    (r'{"instances": [{"\uDFFF": 1}]}', "The body holds half a character"),
    (r'{"signature_name": "\ud83d", "instances": [[1, 2, 3]]}', "The body holds half a character"),
]


@pytest.mark.parametrize(("body", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_a_bad_json_request_is_refused_with_a_sentence(client: Client, body: object, words: str) -> None:
    answer = ask(client, body)
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]
    assert ask(client, TWO_ROWS).status_code == 200


REFUSED_CSV = [
    ("1,2\n", "Row 1 has 2 values, the model has 3 features"),
    ("1,2,3\n1,two,3\n", "Row 2, feature 'minutes': \"two\" is not a number"),
    ("1,2,1_000\n", "Row 1, feature 'deposits': \"1_000\" is not a number"),
    ("1,2,inf\n", "Row 1, feature 'deposits': infinite"),
    ("sessions,minutes,deposits\n1,2,3\n", "The first line is a header"),
    ("", "No rows"),
    ("\n\n", "No rows"),
    ("1,2,\x00\n", "is not a number"),
]


@pytest.mark.parametrize(("body", "words"), REFUSED_CSV, ids=[words for _, words in REFUSED_CSV])
def test_a_bad_csv_request_is_refused_with_a_sentence(client: Client, body: str, words: str) -> None:
    answer = ask(client, body, "text/csv")
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_a_pair_of_surrogates_is_one_character(client: Client) -> None:
    assert ask(client, r'{"note": "\ud83d\ude00", "instances": [[1, 2, 3]]}').status_code == 200


def test_half_a_character_is_no_category() -> None:
    endpoint = Endpoint(PackageFacts("3", "", "it", CLASSES, FEATURES, (0.5, "tcp", 0.0), {"minutes": {"tcp": 25681}}))
    endpoint.model = Model()
    assert ask(Client(endpoint), r'{"instances": [[1, "\ud800", 3]]}').status_code == 400


@pytest.mark.parametrize("kind", ["TEXT/CSV", "Text/Csv; Charset=UTF-8"])
def test_a_media_type_may_be_in_capitals(client: Client, kind: str, tmp_path: Path) -> None:
    assert ask(client, ".25,1,2\n", kind, Accept=kind).text == "0,0.25,0.0,0.75,0.0,0.25\n"
    assert records(tmp_path / "captured")[0]["captureData"]["endpointInput"]["encoding"] == "CSV"
    assert client.get("/", Accept="TEXT/HTML").headers["content-type"].startswith("text/html")


def test_identity_is_no_compression_however_it_is_written(client: Client) -> None:
    assert ask(client, TWO_ROWS, **{"Content-Encoding": "Identity"}).status_code == 200


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (415, {"Content-Type": "application/x-www-form-urlencoded"}),
        (415, {"Content-Type": "text/plain"}),
        (415, {}),
        (415, {"Content-Type": "application/json", "Content-Encoding": "GZIP"}),
        (406, {"Content-Type": "application/json", "Accept": "image/png"}),
    ],
)
def test_a_type_that_is_not_supported_is_refused(client: Client, status: int, headers: dict[str, str]) -> None:
    answer = client.request("POST", "/invocations", json.dumps(TWO_ROWS), **headers)
    assert answer.status_code == status
    assert answer.json()["error"].endswith(("text/csv.", "Send it uncompressed."))


def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    answer = ask(client, {"instances": [[1, 2, 3]] * 500})
    assert answer.status_code == 413
    assert "larger than 2,000 bytes. Send the rows in several requests." in answer.json()["error"]


def test_another_path_or_method_is_refused_with_those_that_exist(client: Client) -> None:
    lost, wrong = client.get("/invocation"), client.get("/invocations")
    assert (lost.status_code, wrong.status_code) == (404, 405)
    assert lost.json()["error"] == "Unknown path /invocation. Use POST /invocations, GET /ping or GET /."
    assert wrong.json()["error"].startswith("GET is not allowed for /invocations. Use POST /invocations")
    assert wrong.headers["allow"] == "POST"


def test_a_bug_gives_a_sentence_and_the_server_lives_on(client: Client, endpoint: Endpoint) -> None:
    endpoint.model.bug = True
    answer = ask(client, TWO_ROWS)
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "The model failed on this request. See the server's log for the reason."},
    )
    endpoint.model.bug = False
    assert ask(client, TWO_ROWS).status_code == 200


def test_until_the_model_is_loaded_nothing_is_promised(client: Client, endpoint: Endpoint) -> None:
    endpoint.model, model = None, endpoint.model
    assert client.get("/ping").status_code == 503
    assert ask(client, TWO_ROWS).status_code == 503
    endpoint.model = model
    assert client.get("/ping").status_code == 200


# -- many at once ---------------------------------------------------------------------------------------------------


class Held(Model):
    """A model whose first call waits until `go` is set. It notes the number of rows of each call."""

    def __init__(self) -> None:
        self.go, self.begun, self.calls = threading.Event(), threading.Event(), list[int]()

    def score(self, values: np.ndarray, names: Sequence[str] | None = None) -> Any:
        self.calls.append(len(values))
        self.begun.set()
        assert self.go.wait(30)
        return super().score(values)


def asked_at_once(endpoint: Endpoint, bodies: Sequence[str], first: str = ".5,1,2") -> list[httpx.Response]:
    """The answers to requests of CSV: the first is with the model while the others come. /ping is asked last."""
    model = Held()
    endpoint.model = model
    transport = httpx.ASGITransport(endpoint.app(), raise_app_exceptions=False)

    async def all_of_them() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:

            async def post(body: str) -> httpx.Response:
                return await client.post("/invocations", content=body, headers={"Content-Type": "text/csv"})

            asking = [asyncio.ensure_future(post(first))]
            await asyncio.to_thread(model.begun.wait, 30)
            asking += [asyncio.ensure_future(post(body)) for body in bodies]
            ping = await client.get("/ping")
            model.go.set()
            return [*await asyncio.gather(*asking), ping]

    return asyncio.run(all_of_them())


def test_requests_that_wait_together_are_answered_by_one_call_of_the_model(endpoint: Endpoint, tmp_path: Path) -> None:
    bodies = [f"{i / 32},1,2\n" * (1 + i % 3) for i in range(20)]
    _, *answers, ping = asked_at_once(endpoint, bodies)
    assert endpoint.model.calls == [1, sum(1 + i % 3 for i in range(20))]
    for i, answer in enumerate(answers):
        assert [row["rarity"] for row in answer.json()["predictions"]] == [i / 32] * (1 + i % 3)
    assert ping.status_code == 200
    assert len(records(tmp_path / "captured")) == 21


def test_of_requests_that_wait_together_a_bad_one_is_refused_alone(endpoint: Endpoint) -> None:
    _, good, bad, also_good, _ = asked_at_once(endpoint, [".25,1,2", ".25,x,2", ".75,1,2"])
    assert [answer.status_code for answer in (good, bad, also_good)] == [200, 400, 200]
    assert also_good.json()["predictions"][0]["rarity"] == 0.75


def test_a_large_request_holds_up_neither_small_ones_nor_ping(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "SMALL_BYTES", 30)

    class Large(Held):
        def score(self, values: np.ndarray, names: Sequence[str] | None = None) -> Any:
            if len(values) == 1:
                self.go.set()  # the large one goes on only after the small one
                return Model.score(self, values)
            return super().score(values)

    monkeypatch.setattr(sys.modules[__name__], "Held", Large)
    large, small, ping = asked_at_once(endpoint, [".25,1,2"], ".5,1,2\n" * 20)
    assert [answer.status_code for answer in (large, small, ping)] == [200, 200, 200]


def test_more_requests_than_there_is_room_for_are_sent_away_for_a_second(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MOST_REQUESTS", 3)
    answers = asked_at_once(endpoint, [".25,1,2"] * 5)
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 200, 503, 503, 503]
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"] == "3 requests are being answered. Send this one again in a second."
    assert len(asked_at_once(endpoint, [".25,1,2"])) == 3, "there is room again"


WIDE = tuple(f"feature {i}" for i in range(50))
LARGE = {
    "JSON": json.dumps({"instances": [[0.125 + i for i in range(50)]] * 10_000}),
    "columns": json.dumps({"inputs": {"features": [[0.125 + i for i in range(50)]] * 10_000}}),
    "CSV": (",".join(str(0.125 + i) for i in range(50)) + "\n") * 10_000,
}


@pytest.mark.parametrize("form", LARGE)
def test_a_large_body_becomes_numbers_a_block_of_rows_at_a_time(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other threads, such as that of /ping, run between two blocks; benchmarks measure how long they wait."""
    blocks, convert = list[int](), wire.block_to_float32
    monkeypatch.setattr(wire, "block_to_float32", lambda rows, *more: blocks.append(len(rows)) or convert(rows, *more))
    monkeypatch.setattr(json, "loads", None)
    asked = wire.read_request(LARGE[form], wire.CSV if form == "CSV" else wire.JSON, WIDE)
    assert asked.values.shape == (10_000, 50) and blocks == [wire.BLOCK] * (10_000 // wire.BLOCK)


def test_a_body_of_blank_lines_has_no_rows() -> None:
    with pytest.raises(wire.RequestError, match="No rows"):
        wire.read_request("\n" * 2_000_000, wire.CSV, WIDE)


@pytest.mark.parametrize("form", LARGE)
def test_a_large_answer_is_what_one_call_would_have_written(form: str) -> None:
    n = 5_000
    rarity = np.linspace(0, 1, n, dtype=np.float32)
    scores = Scores(np.stack([1 - rarity, rarity], axis=1), rarity, rarity, np.ones(n, np.int32))
    asked, kind = wire.ScoreRequest(np.zeros((n, 1)), form == "columns"), wire.CSV if form == "CSV" else wire.JSON
    written = wire.render_scores(scores, asked, kind)
    if form == "CSV":
        found = [float(line.split(",")[1]) for line in written.splitlines()]
    else:
        body = json.loads(written)
        assert written == json.dumps(body)
        found = body["outputs"]["rarity"] if form == "columns" else [row["rarity"] for row in body["predictions"]]
    assert np.float32(found).tolist() == rarity.tolist()


@pytest.mark.parametrize(
    "text",
    [
        ' {"a" : [ [1, -2.5e-3 ,NaN], {"b":[[]]} , "\\u00e9\\ud83d\\ude00" ] ,"c":{"d":[1,[2,[3]]],"a":null}}\r\n\t',
        '{"instances": [[1, 1E400, -Infinity, 9007199254740993, true]], "instances": []}',
        "[]",
        "-7",
        '{"instances": [[1, 2],]}',
        '{"instances": [[1, 2] [3, 4]]}',
        '{"instances": [[1, 2]',
        '{"instances": [[1, 2]]} x',
        '{"instances": [[01]]}',
        "{'instances': []}",
        '{"a": "\t"}',
        '{"instances": [,]}',
        "",
    ],
)
def test_a_body_read_row_by_row_is_read_as_json_loads_reads_it(text: str) -> None:
    def outcome(read: Callable[[str], object]) -> str:
        try:
            return repr(read(text))
        except json.JSONDecodeError as error:
            return str(error)

    assert outcome(wire.BODIES.decode) == outcome(json.loads)


def test_rows_of_large_requests_are_told_by_their_number_in_the_request() -> None:
    rows = ["1,2,3"] * 1234 + ["1,x,3"]
    for body, kind in (("\n".join(rows), wire.CSV), (f'{{"instances": [{"[1,2,3]," * 1234}[1,"x",3]]}}', wire.JSON)):
        with pytest.raises(wire.RequestError, match="Row 1235, feature 'minutes': \"x\" is not a number"):
            wire.read_request(body, kind, FEATURES)
    scores = wire.read_request("\n".join(f"{i},2,3" for i in range(1234)), wire.CSV, FEATURES)
    assert scores.values[:, 0].tolist() == list(range(1234))


def test_a_line_of_csv_ends_as_in_files_and_a_text_in_quotes_may_hold_any_line_end() -> None:
    for text in ("a\nb", "a\r\nb", "a\u2028b", "a\x0bb"):
        asked = wire.read_request(f'1,"{text}",3\r1,x,3', wire.CSV, FEATURES, {"minutes"})
        assert asked.values[0, 1] == categories.code(text)
        assert len(asked.values) == 2


# -- what a person sees ---------------------------------------------------------------------------------------------


def test_the_front_page_tells_the_model_the_features_and_an_example_that_works(client: Client) -> None:
    facts = client.get("/").json()
    assert (facts["version"], facts["definition"], facts["features"]) == ("3", "best_ranking", list(FEATURES))
    assert facts["labels"] == {"0": "dormant", "1": "normal", "2": "risky", "3": "unknown"}
    body = re.search(r"-d '(.*)'", facts["example"])
    assert body is not None
    assert ask(client, body[1]).status_code == 200


def test_a_category_is_taken_as_text_or_as_its_code() -> None:
    texts = {"l'eau": 7, "tcp": 25681}
    endpoint = Endpoint(
        PackageFacts("3", "", "it", CLASSES, ("a", "protocol", "b"), (0.5, "l'eau", 0.0), {"protocol": texts})
    )
    asked: list[np.ndarray] = []

    class Listening(Model):
        def score(self, values: np.ndarray, names: Sequence[str] | None = None) -> Any:
            asked.append(values)
            return super().score(values)

    endpoint.model = Listening()
    client = Client(endpoint)
    rows = [[0.5, "tcp", 1], [0.5, 25681, 1], [0.5, " tcp ", 1], [0.5, "", 1], [0.5, float("nan"), 1], [0.5, "new", 1]]
    answers = [
        ask(client, {"instances": rows}),
        ask(client, {"instances": [{"features": row} for row in rows]}),
        ask(client, {"inputs": {"features": rows}}),
        ask(client, '.5,tcp,1\n.5,25681,1\n.5," tcp ",1\n.5,,1\n.5,nan,1\n.5,new,1', "text/csv"),
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    for values in asked:
        np.testing.assert_array_equal(values[:5, 1], np.array([25681, 25681, 25681, np.nan, np.nan], np.float32))
        assert 0 <= values[5, 1] < 2**24
    refused = ask(client, {"instances": [["tcp", "tcp", 1]]})
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("Row 1, feature 'a': \"tcp\" is not a number.")
    assert "null. Write a missing value as NaN" in ask(client, {"instances": [[1, None, 1]]}).text


def test_the_front_page_names_categories_and_its_example_sends_one() -> None:
    texts = {"l'eau": 7, "tcp": 25681}
    endpoint = Endpoint(
        PackageFacts("3", "", "it", CLASSES, ("a", "protocol", "b"), (0.5, "l'eau", 0.0), {"protocol": texts})
    )
    endpoint.model = Model()
    told = Client(endpoint).get("/").json()
    assert told["categories"] == {"protocol": texts}
    body = shlex.split(told["example"])[-1]
    assert json.loads(body) == {"instances": [[0.5, "l'eau", 0]]}
    assert ask(Client(endpoint), body).status_code == 200


def test_the_front_page_is_a_page_for_a_browser(client: Client) -> None:
    answer = client.get("/", Accept="text/html,*/*")
    assert answer.headers["content-type"].startswith("text/html")
    assert "best_ranking, version 3" in answer.text
    assert "2 = risky" in answer.text


def test_the_front_page_escapes_what_it_shows() -> None:
    facts = PackageFacts("1", "", "<script>", ("<b>", "&"), ("<i>",), (0.0,))
    text = Client(Endpoint(facts)).get("/", Accept="text/html").text
    assert "<script>" not in text and "<b>" not in text and "<i>" not in text
    assert "&lt;script&gt;" in text


# -- data capture ---------------------------------------------------------------------------------------------------


def test_an_exchange_is_captured_in_sagemakers_format(client: Client, tmp_path: Path) -> None:
    answer = ask(client, "0.25,1,2\n", "text/csv; charset=utf-8", **{"X-Amzn-SageMaker-Inference-Id": "user-7"})
    [record] = records(tmp_path / "captured")
    assert record["captureData"] == {
        "endpointInput": {
            "observedContentType": "text/csv; charset=utf-8",
            "mode": "INPUT",
            "data": "0.25,1,2\n",
            "encoding": "CSV",
        },
        "endpointOutput": {
            "observedContentType": "application/json",
            "mode": "OUTPUT",
            "data": answer.text,
            "encoding": "JSON",
        },
    }
    assert record["eventVersion"] == "0"
    assert record["eventMetadata"]["inferenceId"] == "user-7"
    assert set(record["eventMetadata"]) == {"eventId", "inferenceTime", "inferenceId"}


@pytest.mark.parametrize("coding", ["utf-8", "latin-1"])
def test_an_id_with_an_umlaut_is_captured_as_it_was_meant(endpoint: Endpoint, tmp_path: Path, coding: str) -> None:
    async def call() -> httpx.Response:
        name = {b"X-Amzn-SageMaker-Inference-Id": "jürgen".encode(coding)}
        headers = {b"Content-Type": b"application/json", **name}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(endpoint.app()), base_url="http://test") as client:
            return await client.post("/invocations", content=json.dumps(TWO_ROWS), headers=headers)

    assert anyio.run(call).status_code == 200
    assert records(tmp_path / "captured")[0]["eventMetadata"]["inferenceId"] == "jürgen"


def test_a_captured_body_is_the_body_whatever_it_holds(tmp_path: Path) -> None:
    body = ('é"\\\n\x00\u2028😀' * 30_000) + "."
    Capture(tmp_path).record(("text/csv", body), ('application/"json', body))
    [record] = records(tmp_path)
    sides = record["captureData"]
    assert [sides[side]["data"] == body for side in ("endpointInput", "endpointOutput")] == [True, True]
    assert sides["endpointOutput"]["observedContentType"] == 'application/"json'


def test_refused_requests_are_not_captured(client: Client, tmp_path: Path) -> None:
    ask(client, {"instances": [[1]]})
    assert records(tmp_path / "captured") == []


def test_records_lie_in_a_folder_per_hour(tmp_path: Path) -> None:
    times = iter([datetime(2026, 3, 1, 9, 59, 59, tzinfo=UTC), datetime(2026, 3, 1, 10, 0, 1, tzinfo=UTC)] * 2)
    capture = Capture(tmp_path, clock=lambda: next(times))
    for _ in range(2):
        capture.record(("application/json", "{}"), ("application/json", "{}"))
    folders = {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jsonl")}
    assert folders == {"2026/03/01/09", "2026/03/01/10"}
    assert [r["eventMetadata"]["inferenceTime"] for r in records(tmp_path)] == [
        "2026-03-01T09:59:59Z",
        "2026-03-01T10:00:01Z",
    ]


def test_a_share_of_the_requests_is_captured(tmp_path: Path) -> None:
    capture = Capture(tmp_path, percentage=25, rng=random.Random(1))
    for _ in range(400):
        capture.record(("text/csv", "1"), ("text/csv", "1"))
    assert 70 < len(records(tmp_path)) < 130
    Capture(tmp_path / "none", percentage=0).record(("text/csv", "1"), ("text/csv", "1"))
    assert not (tmp_path / "none").exists()


def test_many_threads_capture_whole_lines(tmp_path: Path) -> None:
    capture = Capture(tmp_path)
    body = "1,2,3\n" * 2000

    def work() -> None:
        for _ in range(25):
            capture.record(("text/csv", body), ("text/csv", body))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(records(tmp_path)) == 100


def test_a_full_disk_costs_the_record_and_not_the_answer(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[:20]) if b"captureData" in data else real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        assert [ask(client, TWO_ROWS).status_code for _ in range(3)] == [200, 200, 200]
    assert capsys.readouterr().err.count("data capture failed (No space left on device") == 1
    assert ask(client, TWO_ROWS).status_code == 200
    unfinished = [path for path in (tmp_path / "captured").rglob("*.jsonl") if path.stat().st_size == 20]
    whole = [path for path in (tmp_path / "captured").rglob("*.jsonl") if path not in unfinished]
    assert (len(unfinished), len(whole)) == (3, 1)
    assert json.loads(whole[0].read_text())["eventVersion"] == "0"


# -- starting and stopping ------------------------------------------------------------------------------------------


MODEL = {"classes": CLASSES, "features": FEATURES, "thresholds": {"rare": 0.5, "unknown": 1.0}}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package's folder; its graph is a stand-in."""
    folder = tmp_path / "a package"
    (folder / "model" / "1").mkdir(parents=True)
    (folder / "baseline").mkdir()
    (folder / "model" / "1" / "saved_model.pb").write_bytes(b"graph")
    (folder / "model" / "model.json").write_text(json.dumps(MODEL))
    facts = {"version": 3, "group": "risky-players", "definition": "best_ranking", "status": "Approved"}
    (folder / "package.json").write_text(json.dumps(facts))
    means = [
        {"name": name, "numerical_statistics": {"mean": mean}}
        for name, mean in zip(FEATURES, FACTS.typical, strict=True)
    ]
    (folder / "baseline" / "statistics.json").write_text(json.dumps({"features": means}))
    return folder


def test_a_package_tells_what_is_served(package: Path) -> None:
    assert read_package_facts(package) == FACTS
    assert example_request(FACTS, "http://x").endswith("""-d '{"instances": [[2.5, 40, 0]]}'""")


def save_model(folder: Path) -> None:
    """A SavedModel in the form that training writes: raw features in, four named outputs; here rarity is `sessions`."""
    import tensorflow as tf

    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, len(FEATURES)], tf.float32, name="features")])
    def answer(features: Any) -> Any:
        rarity = features[:, 0]
        missing = tf.cast(tf.math.is_nan(features[:, 1]), tf.float32)
        return {
            "probabilities": tf.stack([1 - rarity, 0 * rarity, rarity], axis=1),
            "rarity": rarity,
            "unknown": missing,
            "label": tf.where(rarity > 0.5, 2, 0),
        }

    module.answer = answer
    tf.saved_model.save(module, str(folder), signatures={"serving_default": answer})


def test_a_saved_model_is_loaded_and_answers(package: Path, client: Client) -> None:
    save_model(package / "model" / "1")
    real = Endpoint(read_package_facts(package))
    real.model = load_model(package / "model")
    assert ask(Client(real), TWO_ROWS).json() == ask(client, TWO_ROWS).json()


def test_a_damaged_saved_model_is_refused(package: Path) -> None:
    with pytest.raises(UserError, match="damaged"):
        load_model(package / "model")


def never(folder: Path) -> Any:
    raise AssertionError("TensorFlow was loaded before the mistake was found")


def answer_to(endpoint: Endpoint, host: str, **headers: str) -> httpx.Response:
    return Client(endpoint).request("GET", "/ping", None, **{"Host": host, **headers})


@pytest.mark.parametrize(
    ("bound", "port", "called", "status"),
    [
        ("127.0.0.1", "{port}", "127.0.0.1", 200),
        ("127.0.0.1", "{port}", "LocalHost", 200),
        ("127.0.0.1", "{port}", "[::1]", 200),
        ("localhost", "{port}", "localhost", 200),
        ("127.0.0.1", "{port}", "scoring", 200),  # allowed
        ("127.0.0.1", "{port}", "evil.example", 403),
        ("127.0.0.1", "{port}", "127.0.0.1.evil.example", 403),
        ("127.0.0.1", "1", "127.0.0.1", 403),
        ("127.0.0.1", "{port}", "10.0.0.1", 403),
        ("0.0.0.0", "1", "10.0.0.1", 200),  # a published port of a container
        ("0.0.0.0", "{port}", "localhost", 200),
        ("0.0.0.0", "{port}", "evil.example", 403),
    ],
)
def test_the_server_answers_under_its_own_names_only(
    endpoint: Endpoint, bound: str, port: str, called: str, status: int
) -> None:
    with listen(bound, 0) as listener:
        endpoint.hosts = hosts_of(bound, listener, ["scoring"])
        host = f"{called}:{port.format(port=listener.getsockname()[1])}"
    answer = answer_to(endpoint, host)
    assert answer.status_code == status
    if status == 403:
        assert f"may not be called as '{host.lower()}'" in answer.json()["error"]
        assert answer_to(endpoint, host, Origin=f"http://{host}").status_code == 403


@pytest.mark.parametrize(
    ("port", "called", "status"),
    [
        (80, "127.0.0.1", 200),
        (80, "localhost", 200),
        (80, "[::1]", 200),
        (80, "localhost:80", 200),
        (80, "evil.example", 403),
        (8080, "localhost", 403),
    ],
)
def test_at_port_80_clients_leave_the_port_out(endpoint: Endpoint, port: int, called: str, status: int) -> None:
    """https://www.rfc-editor.org/rfc/rfc9110#section-4.2.3"""
    endpoint.hosts = hosts_of("127.0.0.1", Mock(getsockname=lambda: ("127.0.0.1", port)))
    assert answer_to(endpoint, called).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://127.0.0.1:8080", 200), ("http://127.0.0.1:1", 403), ("https://evil.example", 403), ("null", 403)],
)
def test_a_web_page_of_another_origin_is_refused(endpoint: Endpoint, origin: str, status: int) -> None:
    endpoint.hosts = Hosts(frozenset({"127.0.0.1:8080"}))
    answer = answer_to(endpoint, "127.0.0.1:8080", Origin=origin)
    assert answer.status_code == status
    assert status == 200 or "page of another origin" in answer.json()["error"]


def test_a_port_in_use_is_refused_before_the_model_is_loaded(package: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} is in use\..*--port 0"):
            serve_package(package, port=port, capture_percentage=100, load=never)


@pytest.mark.parametrize(("host", "port"), [("no.such.host.invalid", 8080), ("127.0.0.1", 99999), ("203.0.113.7", 0)])
def test_an_address_that_is_not_ours_is_refused(host: str, port: int) -> None:
    with pytest.raises(UserError, match=r"Use --host|--port"):
        listen(host, port)


def test_small_answers_are_sent_at_once() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP  # what asyncio looks at before it sets TCP_NODELAY


@pytest.mark.parametrize("lost", ["model/model.json", "model/1/saved_model.pb"])
def test_a_folder_that_is_no_package_is_refused(package: Path, lost: str) -> None:
    (package / lost).unlink()
    with pytest.raises(UserError, match=lost):
        serve_package(package, port=0, capture_percentage=100, load=never)


def test_a_model_that_does_not_tell_its_features_is_refused(package: Path) -> None:
    (package / "model" / "model.json").write_text(json.dumps({"classes": CLASSES}))
    with pytest.raises(UserError, match="no 'features' in it"):
        serve_package(package, port=0, capture_percentage=100, load=never)


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_sentence(package: Path) -> None:
    def damaged(folder: Path) -> Any:
        raise UserError(f"{folder}: damaged. Export the package again.")

    with pytest.raises(UserError, match=r"damaged\. Export the package again"):
        serve_package(package, port=0, capture_percentage=100, load=damaged)


SERVER = """
import sys, time
from pathlib import Path
from test_serving import Model
from scarcegan import serving
from scarcegan.serving import serve_package

class Slow(Model):
    def score(self, values, names=None):
        time.sleep(float(values[0, 2]))
        return super().score(values, names)

serving.HEADER_SECONDS = serving.BODY_SECONDS = serving.ANSWER_SECONDS = serving.DRAIN_SECONDS = float(sys.argv[3])
serve_package(Path(sys.argv[1]), port=0, capture=Path(sys.argv[2]), capture_percentage=100,
              allowed_hosts=["x"], load=lambda folder: Slow())
"""


def start(package: Path, capture: Path, patience: float = 30) -> tuple[subprocess.Popen[str], str]:
    """A server in a process of its own, and its address once it answers.

    patience: seconds for headers, bodies and answers, and for what is under way when it stops.
    """
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent / "src"), str(here)])}
    command = [sys.executable, "-c", SERVER, str(package), str(capture), str(patience)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert server.stderr is not None
    for line in server.stderr:
        if match := re.search(r"http://127\.0\.0\.1:\d+", line):
            return server, match[0]
    raise AssertionError("the server did not start")


def post(url: str, row: list[float]) -> Any:
    body = json.dumps({"instances": [row]}).encode()
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_under_way_end_and_is_no_failure(package: Path, tmp_path: Path, stop: int) -> None:
    server, url = start(package, tmp_path / "captured")
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(post(url, [0.25, 1, 1.0])))
    asking.start()
    time.sleep(0.4)
    server.send_signal(stop)
    asking.join()
    assert answers[0]["predictions"][0]["rarity"] == 0.25
    said = server.communicate(timeout=30)[1]
    assert server.returncode == 0
    assert "stopped." in said and "Traceback" not in said
    assert len(records(tmp_path / "captured" / "3")) == 1


def test_a_call_of_the_model_that_is_stuck_does_not_hold_up_the_end(package: Path, tmp_path: Path) -> None:
    server, url = start(package, tmp_path / "captured", patience=1)
    body = json.dumps({"instances": [[0.25, 1, 600.0]]}).encode()
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=30) as caller:
            caller.sendall(head % len(body) + body)
            time.sleep(0.4)
            server.send_signal(signal.SIGTERM)
            said = server.communicate(timeout=20)[1]
        assert server.returncode == 0 and "stopped." in said
    finally:
        server.kill()
        server.communicate()


def test_a_killed_server_leaves_whole_records_and_a_free_port(package: Path, tmp_path: Path) -> None:
    server, url = start(package, tmp_path / "captured")
    for rarity in (0.25, 0.75):
        post(url, [rarity, 1, 0])
    server.kill()
    server.wait()
    assert len(records(tmp_path / "captured" / "3")) == 2
    listen("127.0.0.1", int(url.rsplit(":", 1)[1])).close()


def test_a_caller_who_never_finishes_a_request_is_hung_up_on(package: Path, tmp_path: Path) -> None:
    server, url = start(package, tmp_path / "captured", patience=0.3)
    port = int(url.rsplit(":", 1)[1])
    half = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Le"
    whole = b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n"
    started_body = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: 90\r\n\r\n{"
    try:
        for words, answer in (
            (b"", b""),
            (half, b""),
            (whole + half, b"200 OK"),
            (started_body, b"408 "),
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:
                caller.sendall(words)
                heard = b"".join(iter(lambda: caller.recv(1000), b""))
                assert answer in heard and bool(answer) == bool(heard)
        assert post(url, [0.25, 1, 0])["predictions"][0]["label"] == 0
    finally:
        server.kill()
        server.communicate()


def test_a_caller_who_never_takes_the_answer_is_hung_up_on(package: Path, tmp_path: Path) -> None:
    server, url = start(package, tmp_path / "captured", patience=1)
    body = b"0.5,1,0\n" * 150_000  # the answer is larger than what the system keeps for a caller
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: %d\r\n\r\n" % len(body)
    try:
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=30) as caller:
            caller.sendall(head + body)
            head = caller.recv(100)
            time.sleep(3)
            heard = len(head)
            with contextlib.suppress(ConnectionResetError):
                heard += sum(map(len, iter(lambda: caller.recv(2**20), b"")))
        assert head.startswith(b"HTTP/1.1 200")
        assert heard < 70 * 150_000
        assert post(url, [0.25, 1, 0])["predictions"][0]["label"] == 0
    finally:
        server.kill()
        server.communicate()


def test_a_connection_that_is_lost_while_its_answer_waits_is_forgotten_at_once(endpoint: Endpoint) -> None:
    config = serving.server_of(endpoint).config
    config.load()

    async def lost_while_paused() -> weakref.ref[Mock]:
        connection = serving.Connection(config, ServerState(), {}, asyncio.get_running_loop())
        transport = Mock(get_extra_info=lambda name: None)
        connection.connection_made(transport)
        connection.pause_writing()
        connection.connection_lost(ConnectionResetError())
        return weakref.ref(transport)

    async def forgotten() -> bool:
        lost = await lost_while_paused()
        gc.collect()
        return lost() is None

    assert asyncio.run(forgotten())


@pytest.mark.parametrize("control", [b"\x00", b"\x01", b"\x7f"])
def test_a_control_character_in_the_id_of_a_request_is_refused(package: Path, tmp_path: Path, control: bytes) -> None:
    server, url = start(package, tmp_path / "captured")
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nX-Amzn-SageMaker-Inference-Id: a%bb\r\n\r\n" % control
    try:
        with socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])), timeout=30) as caller:
            caller.sendall(head)
            head, _, body = b"".join(iter(lambda: caller.recv(1000), b"")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert "control character, such as NUL" in json.loads(body)["error"]
        assert post(url, [0.25, 1, 0])["predictions"][0]["label"] == 0
    finally:
        server.kill()
        server.communicate()


def test_a_caller_who_talks_nonsense_or_hangs_up_does_no_harm(package: Path, tmp_path: Path) -> None:
    server, url = start(package, tmp_path / "captured")
    address = ("127.0.0.1", int(url.rsplit(":", 1)[1]))
    try:
        for words in (
            b"\x16\x03\x01 hello\r\n\r\n",
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
            b"GET / HTTP/9.9\r\n\r\n",
            b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            with socket.create_connection(address) as caller:
                caller.sendall(words)
        with socket.create_connection(address, timeout=30) as caller:
            body = b"[" * (7 * 2**20)
            head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: text/csv\r\nContent-Length: %d\r\n\r\n"
            caller.sendall(head % len(body) + body)
            assert b"413" in caller.recv(100)
        assert post(url, [0.25, 1, 0])["predictions"][0]["label"] == 0
    finally:
        server.terminate()
        said = server.communicate(timeout=30)[1]
    assert "Traceback" not in said
