"""/openapi.json describes the routes that there are, and whatever it allows is answered without a failure."""

import json
import random
import re

import pytest
from starlette.testclient import TestClient

from longtake.runs.jobs.queue import JobQueue
from longtake.server.app import create_app, guarded
from longtake.server.openapi import BODIES, ENDLESS, FILES, QUERIES
from longtake.server.security import Access
from tests.runs.jobs.queues import asked


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with JobQueue(tmp_path_factory.mktemp("videos"), most_queued=20) as queue:
        app = guarded(create_app(queue), Access())
        with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
            client.video = queue.submit(asked("a red ball"))[0].id
            yield client


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json()


def operations(document):
    return {
        f"{method.upper()} {path}": one
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    }


def test_every_operation_is_described_and_answered(client, document):
    found = operations(document)
    assert document["openapi"] == "3.1.0" and len(found) > 25
    assert {*BODIES, *FILES, *QUERIES, *ENDLESS} <= found.keys()
    assert all(one["summary"].endswith(".") or len(one["summary"]) > 60 for one in found.values())
    assert len({one["operationId"] for one in found.values()}) == len(found)
    for name in found.keys() - {*ENDLESS}:
        method, path = name.split(" ")
        path = re.sub(r"\{\w+\}", "unknown_id_1", path.replace("{number}", "0"))
        answer = client.request(method, path)
        assert answer.status_code != 405 and "There is no route" not in answer.text, (name, answer.text)


def test_references_lead_somewhere(document):
    text = json.dumps(document)
    assert {ref.rpartition("/")[2] for ref in re.findall(r'"\$ref": "([^"]+)"', text)} <= document["components"][
        "schemas"
    ].keys()


def test_the_fields_of_a_video_are_those_that_are_checked(client, document):
    """Every option of the document is known to the server: none is answered with "there is no option"."""
    for name in document["components"]["schemas"]["VideoRequest"]["properties"]:
        answer = client.post("/v1/videos", json={"prompt": "a", name: {"strange": "value"}})
        assert answer.status_code in (400, 404, 415, 429), (name, answer.text)
        assert "there is no option" not in answer.text, name


WORDS = [
    "",
    "a",
    "red ball",
    "0",
    "-1",
    "1e9",
    "nan",
    "true",
    "null",
    "[]",
    "{",
    "../x",
    "a\0b",
    "\u202e\U0001f600",
    "x" * 5000,
    "9" * 40,
]
NUMBERS = [0, 1, -1, 7, 2**40, 10**30, 0.5, -0.0, 1e300]


def value(rng, depth=0):
    """Some JSON value."""
    kind = rng.randrange(6 if depth < 3 else 4)
    if kind < 4:
        return [rng.choice(WORDS), rng.choice(NUMBERS), rng.choice([None, True, False]), rng.choice(WORDS)][kind]
    items = [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return items if kind == 4 else {rng.choice(["id", "prompt", "seconds", "op", "x", ""]): item for item in items}


def fuzz(client, document, rng):
    """Send some request that the document allows, or nearly."""
    name, one = rng.choice([(n, o) for n, o in sorted(operations(document).items()) if n not in ENDLESS])
    method, path = name.split(" ")
    path = re.sub(
        r"\{\w+\}", lambda _: rng.choice([client.video] * 3 + ["video_unknown_1", "..", "%2e%2e", "a%00b", "0"]), path
    )
    query = {p["name"]: rng.choice(WORDS) for p in one["parameters"] if p["in"] == "query" and rng.random() < 0.5}
    body, files = None, None
    if name in FILES:
        files = {"file": (rng.choice(["a", "../x", "\u202e"]), rng.randbytes(rng.randrange(100)))}
    elif "requestBody" in one:
        reference = one["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        known = sorted(document["components"]["schemas"][reference].get("properties", {"starred": 0, "place": 0}))
        body = {rng.choice([*known, rng.choice(WORDS)]): value(rng) for _ in range(rng.randrange(4))}
        if rng.random() < 0.5:
            body = {"prompt": "a red ball", "model": "clock", **body}
    if method == "DELETE" and client.video in path:
        return
    answer = client.request(method, path, params=query, json=body, files=files)
    assert answer.status_code < 500, (name, path, query, body, answer.text)
    if answer.status_code >= 400:
        error = answer.json()["error"]
        assert set(error) == {"type", "code", "message", "param"} and error["message"], answer.text


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_a_failure(client, document, seed):
    fuzz(client, document, random.Random(seed))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(0, 4000, 500))
def test_nothing_is_a_failure_for_long(client, document, seed):
    for number in range(seed, seed + 500):
        fuzz(client, document, random.Random(1000 + number))


def test_a_plan_is_counted_without_weights(client):
    plan = client.post("/v1/plan", json={"model": "pocket", "seconds": 20}).json()
    assert plan["num_frames"] > 100 and plan["windows"] > 1 and plan["model_calls"] > 10 and plan["flops"] > 1e6
    assert plan["memory_bytes"]["peak"] > sum(plan["memory_bytes"]["weights"].values()) > 0
    ltx = next(one["id"] for one in client.get("/v1/models").json()["data"] if one["id"].startswith("ltx"))
    assert client.post("/v1/plan", json={"model": ltx, "seconds": "10"}).json()["memory_bytes"]["peak"] > 1e9
    scenes = [{"prompt": "a", "seconds": 1}, {"prompt": "b", "seconds": 0.5}]
    assert client.post("/v1/plan", json={"model": "pocket", "scenes": scenes}).json()["num_frames"] == 36
    refused = client.post("/v1/plan", json={"model": "pocket", "strategy": "none"})
    assert refused.status_code == 400, refused.text
