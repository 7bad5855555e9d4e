"""A server that means harm, or is broken beyond Stripe's ways: every answer of its has a bounded and clear end."""

from __future__ import annotations

import gzip
import itertools
import json
import logging
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from support.hostile_server import HostileServer

from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient
from airflow_provider_stripe_identity._stripe_api.pages import EVENTS, VERIFICATION_SESSIONS, list_page
from airflow_provider_stripe_identity._stripe_api.transport import MAX_BODY_BYTES
from airflow_provider_stripe_identity.exceptions import StripeAPIConnectionError, StripeAPIError, StripeError

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
REDIRECT = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n"
EMPTY_LIST = b'{"object": "list", "data": [], "has_more": false}'
MEGABYTE = b" " * 2**20

Ask = Callable[..., dict]


@pytest.fixture(scope="module")
def hostile() -> Iterator[HostileServer]:
    with HostileServer() as server:
        yield server


@pytest.fixture
def ask(hostile: HostileServer) -> Ask:
    """Return a function that asks for a list, once, and gets the bytes given."""

    def ask(*pieces: bytes, endless: bytes = b"", pause: float = 0.0, timeout: float = 5) -> dict:
        hostile.answer = lambda: itertools.chain(pieces, itertools.repeat(endless) if endless else ())
        hostile.pause = pause
        client = StripeIdentityClient("sk_test_x", base_url=hostile.url, timeout=timeout, max_retries=0)
        return list_page(client, VERIFICATION_SESSIONS, [("client_reference_id", "marked_person")])

    return ask


def sized(body: bytes, *headers: bytes) -> bytes:
    lines = [b"Content-Length: %d" % len(body), *headers]
    return OK + b"\r\n".join([*lines, b"", body])


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


NO_ANSWER = "no complete response arrived"
LARGER = "is larger than 32 MiB"
TOO_LARGE = {
    "100 MB": ([OK + b"Content-Length: 104857600\r\n\r\n", *[MEGABYTE] * 100], b"", LARGER),
    "without end or length": ([OK + b"\r\n"], MEGABYTE, LARGER),
    "chunks without end": ([CHUNKED], chunk(MEGABYTE), LARGER),
    "a redirect without end": ([REDIRECT + b"\r\n"], MEGABYTE, LARGER),
    "an error without end": ([b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], MEGABYTE, LARGER),
    "a gzip bomb": ([sized(gzip.compress(b" " * 200 * 2**20), b"Content-Encoding: gzip")], b"", LARGER),
    "gzip in gzip": (
        [sized(gzip.compress(gzip.compress(MEGABYTE)), b"Content-Encoding: gzip, gzip")],
        b"",
        "Content-Encoding",
    ),
    "lists in lists": ([sized(b"[" * 10_000_000)], b"", "not a JSON object"),
    "a chunk of a negative size": ([CHUNKED, b"-1\r\n"], MEGABYTE, "has no end"),
    "a chunk extension without end": ([CHUNKED, b"1;"], MEGABYTE, NO_ANSWER),
    "trailers without end": ([CHUNKED, chunk(EMPTY_LIST), b"0\r\n"], b"Trailer: x\r\n" * 10_000, NO_ANSWER),
    "a status line without end": ([], MEGABYTE, "LineTooLong"),
    "a header line without end": ([OK], MEGABYTE, "LineTooLong"),
    "header lines without end": ([OK], b"X-Header: x\r\n" * 10_000, f"{NO_ANSWER}.*HTTPException"),
    "informational answers without end": ([], b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000, NO_ANSWER),
}


@pytest.mark.parametrize(("pieces", "endless", "said"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_is_too_large_is_given_up_before_it_fills_the_memory(ask: Ask, pieces, endless, said) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(StripeError, match=said):
            ask(*pieces, endless=endless, timeout=2 if said == NO_ANSWER else 60)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 * MAX_BODY_BYTES


SLOW = {
    "a status line": ([], b"H"),
    "a header line": ([OK + b"X: "], b"x"),
    "header lines": ([OK], b"X: x\r\n"),
    "informational answers": ([], b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a body": ([OK + b"Content-Length: 1000000\r\n\r\n"], b" "),
    "a body without a length": ([OK + b"\r\n"], b" "),
    "chunks": ([CHUNKED], chunk(b" ")),
    "one chunk": ([CHUNKED + b"10000\r\n"], b" "),
    "trailers": ([CHUNKED, chunk(EMPTY_LIST), b"0\r\n"], b"X: x\r\n"),
    "a compressed body": ([OK + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"")[:10]], b"\x00"),
    "a redirect": ([REDIRECT + b"Content-Length: 1000000\r\n\r\n"], b" "),
}


@pytest.mark.parametrize(("pieces", "endless"), SLOW.values(), ids=SLOW)
@pytest.mark.timeout(120)  # it would never end
def test_what_drips_is_given_up(ask: Ask, pieces, endless) -> None:
    """Every byte is in time, so the socket's own timeout would wait forever."""
    with pytest.raises(StripeAPIConnectionError, match=f"{NO_ANSWER}: TimeoutError"):
        ask(*pieces, endless=endless, pause=0.05, timeout=0.3)


def page(text: str) -> bytes:
    """A page with one session whose metadata is this JSON."""
    return (
        b'{"object": "list", "has_more": false, "data": [{"object": "identity.verification_session", "id": "vs_1", '
        b'"created": 1, "livemode": true, "status": "verified", "client_reference_id": "marked_person", '
        b'"metadata": %s}]}' % text.encode()
    )


TWICE = json.dumps(json.loads(page("1")) | {"data": json.loads(page("1"))["data"] * 2}).encode()
NO_JSON = "is not a JSON object"
NO_LIST = "is not a list of Stripe's"
ODD = {
    "nothing": (b"", NO_ANSWER),
    "no HTTP": (b"marked_body\r\n\r\n", NO_ANSWER),
    "a status that is none": (b"HTTP/1.1 marked_body OK\r\n\r\n", NO_ANSWER),
    "a status of its own": (b"HTTP/1.1 999 marked_body\r\n\r\n", "999"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", "204"),
    "a partial answer": (b"HTTP/1.1 206 Partial Content\r\n\r\n" + EMPTY_LIST, "206"),
    "a redirect to nowhere": (
        b"HTTP/1.1 302 Found\r\nLocation: http://[marked_body\r\n\r\n",
        r"302.*\n.*never followed",
    ),
    "a longer length": (OK + b"Content-Length: 1000\r\n\r\n" + EMPTY_LIST, f"{NO_ANSWER}.*IncompleteRead"),
    "a shorter length": (OK + b"Content-Length: 20\r\n\r\n" + EMPTY_LIST, NO_JSON),
    "two lengths": (OK + b"Content-Length: 20\r\nContent-Length: 30\r\n\r\n" + EMPTY_LIST, NO_ANSWER),
    "a chunk of an impossible size": (CHUNKED + b"-a000000000000000\r\n", NO_ANSWER),
    "a chunk without its size": (CHUNKED + b'{"marked_body": 1}\r\n', NO_ANSWER),
    "gzip that is none": (sized(EMPTY_LIST, b"Content-Encoding: gzip"), NO_ANSWER),
    "gzip that ends early": (sized(gzip.compress(page("1"))[:60], b"Content-Encoding: gzip"), NO_JSON),
    "another encoding": (sized(EMPTY_LIST, b"Content-Encoding: br"), "a Content-Encoding that was not requested"),
    "UTF-16": (sized(EMPTY_LIST.decode().encode("utf-16")), NO_JSON),
    "invalid UTF-8": (sized(page('"marked_body"').replace(b"_body", b"\xff\xfe")), NO_JSON),
    "half a surrogate pair": (sized(page('"\\ud800"')), NO_JSON),
    "NaN": (sized(page("NaN")), NO_JSON),
    "a number of 5,000 digits": (sized(page("9" * 5_000)), NO_JSON),
    "a number beyond all floats": (sized(page("1e999")), NO_JSON),
    "no object": (sized(b'"marked_body"'), NO_JSON),
    "a session without created": (sized(page("1").replace(b'"created": 1,', b"")), f"{NO_LIST}.*created"),
    "created as text": (sized(page("1").replace(b": 1,", b': "marked_body",')), f"{NO_LIST}.*created"),
    "created in milliseconds": (sized(page("1").replace(b": 1,", b": 1777604400000,")), f"{NO_LIST}.*created"),
    "no id": (sized(page("1").replace(b'"vs_1"', b"null")), f"{NO_LIST}.*id"),
    "data without objects": (sized(b'{"object": "list", "has_more": false, "data": ["marked_body"]}'), NO_LIST),
    "a session twice": (sized(TWICE), "holds an object twice"),
}


@pytest.mark.parametrize(("answer", "said"), ODD.values(), ids=ODD)
def test_what_is_no_answer_is_an_error_that_repeats_none_of_it(ask: Ask, caplog, answer, said) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(StripeError, match=said) as raised:
        ask(answer)
    assert raised.value.__cause__ is raised.value.__context__ is None
    assert "marked" not in str(raised.value) + caplog.text


def event(**snapshot: object) -> dict:
    session = {"object": "identity.verification_session", "id": "vs_1", "created": 1, "livemode": True, "status": "x"}
    kind = "identity.verification_session.verified"
    facts = {"id": "evt_1", "object": "event", "created": 1, "livemode": True, "type": kind}
    return facts | {"data": {"object": session | snapshot}}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"object": "identity.verification_session", "id": "vs_1"}, "object"),
        (event() | {"data": None}, "data"),
        (event() | {"data": {}}, "got `null`"),
        (event(status=None), "status"),
        (event(id=7), "id"),
        (event(client_reference_id=["marked_person"]), "client_reference_id"),
        (event(last_verification_report=["marked_person"]), "last_verification_report"),
    ],
    ids=["a session", "no data", "no snapshot", "no status", "no id", "an odd reference", "an odd report"],
)
def test_what_is_no_event_is_an_error(hostile: HostileServer, found, said) -> None:
    body = json.dumps({"object": "list", "has_more": False, "data": [event(), found]}).encode()
    hostile.answer = lambda: [sized(body)]
    client = StripeIdentityClient("sk_test_x", base_url=hostile.url, max_retries=0)
    with pytest.raises(StripeAPIError, match=f"{NO_LIST}.*{said}") as raised:
        list_page(client, EVENTS, ())
    assert "marked" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (str(2**64), 2**64),
        ("1" * 400, int("1" * 400)),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ("[" * 300 + "]" * 300, json.loads("[" * 300 + "]" * 300)),
        (r'"\u0000\ud834\udd1e"', "\0\U0001d11e"),
    ],
    ids=["a large number", "a very large number", "a name twice", "deep", "odd characters"],
)
def test_what_is_odd_but_json_is_read(ask: Ask, text, value) -> None:
    assert ask(sized(page(text)))["data"][0]["metadata"] == value


def test_malformed_headers_are_not_logged(ask: Ask, caplog) -> None:
    """urllib3 would warn, with the URL, its query and what came after the headers."""
    with caplog.at_level(logging.INFO):
        assert (
            ask(OK + b"Content-Length: %d\r\nmarked_body\r\nX: x\r\n\r\n" % len(EMPTY_LIST) + EMPTY_LIST)["data"] == []
        )
    assert not caplog.messages


FORGED = "x\r\n2026-01-01 ERROR all is lost\x1b[2K\x85\u2028\u202emarked"


@pytest.mark.parametrize("name", ["message", "type", "code", "param"])
def test_stripes_words_cannot_begin_a_log_line(ask: Ask, name) -> None:
    body = json.dumps({"error": {"type": "api_error", "message": "no", name: FORGED * 1000}}).encode()
    with pytest.raises(StripeError, match="all is lost") as raised:
        ask(b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    error = raised.value
    problem, advice = str(error).split("\n")
    for text in (problem, advice, error.message, error.type, error.code or "", error.param or ""):
        assert text.isprintable()
        assert len(text) < 2_000


def test_headers_cannot_begin_a_log_line(ask: Ask) -> None:
    """A folded header keeps its line break."""
    folded = b"Request-Id: req_1\r\n forged\r\nStripe-Rate-Limited-Reason: x\r\n forged\r\n"
    with pytest.raises(StripeError, match="forged") as raised:
        ask(b"HTTP/1.1 429 Too Many Requests\r\n" + folded + b"\r\n")
    problem, advice, request_id = str(raised.value).split("\n")
    assert (problem + advice + request_id).isprintable()
    assert request_id.split() == ["Request-Id", "req_1", "forged"]


@pytest.mark.parametrize("wait", ["1e999", "nan", "-1", "x", "Fri, 31 Dec 99999 23:59:59 GMT", "Fri, 31 Dec 2026", ""])
def test_a_retry_after_that_is_none(ask: Ask, wait) -> None:
    with pytest.raises(StripeAPIError) as raised:
        ask(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: %s\r\n\r\n" % wait.encode())
    assert raised.value.retry_after in (None, 0.0)
