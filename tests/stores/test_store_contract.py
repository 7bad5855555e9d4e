"""Every store holds the bytes that a local export holds, under the very name that was asked for."""

from __future__ import annotations

import re
import subprocess
import sys
import traceback
from importlib import metadata

import pytest
from airflow.sdk import Connection
from support.object_stores import MAY_1, S3, SECRET, STORES, connect, free_port
from support.paths import ROOT

from airflow_provider_stripe_identity._airflow.version_compat import AirflowFailException
from airflow_provider_stripe_identity._export.storage import check_store, open_destination
from airflow_provider_stripe_identity._export.store_clients import VERIFIED_WITH

REMOTE = [name for name in STORES if name != "local"]

KEYS = [
    "plain.jsonl",
    "with space/and  two .jsonl",
    "ünï/日本語/👩‍👩‍👧.jsonl",
    "percent/100%/a%20b%2Fc%.jsonl",
    "quotes/'single' \"double\" `back`.jsonl",
    "signs/a+b&c=d;e,f!g$h(i)[j]~l^m|n<o>p@q:r*s.jsonl",
    "hash/a#1#b.jsonl",
    "dots/...jsonl/.hidden",
    "long/" + "x" * 255,
    "/".join(["y" * 101] * 10),
]


@pytest.mark.parametrize("conn_in", ["url", "argument"])
@pytest.mark.parametrize("name", ["sessions.jsonl", "sessions.jsonl.gz"])
def test_the_bytes_are_those_of_a_local_export(server, store, export, truth, name, conn_in):
    server.populate(250, MAY_1, MAY_1.replace(day=2))
    key = f"{conn_in}/dt=2026-05-01/{name}"
    if conn_in == "url":
        result = export(store.url(key))
    else:
        result = export(store.url(key, conn_id=""), destination_conn_id="lake_store")
    assert store.read(key) == truth(name)
    assert result["uri"] == store.url(key, conn_id="")
    assert result["conn_id"] == ("lake_store" if conn_in == "argument" or store.scheme != "file" else None)
    assert (result["sessions"], result["bytes"]) == (250, len(truth(name)))


def test_an_object_is_replaced_whole_and_may_be_empty(server, store, export, truth):
    server.populate(120, MAY_1, MAY_1.replace(day=2))
    export(store.url("replaced.jsonl"))
    longer = store.read("replaced.jsonl")
    export(store.url("replaced.jsonl"), fields=["id"])
    shorter = store.read("replaced.jsonl")
    assert shorter == truth(fields=["id"])
    assert len(shorter) < len(longer)
    export(store.url("replaced.jsonl"), client_reference_id="nobody")
    assert store.read("replaced.jsonl") == b""


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.split("/")[0][:12])
def test_a_name_works_as_it_is_or_is_refused(server, store, export, truth, key):
    server.create_session(created=MAY_1)
    try:
        result = export(store.url(key))
    except AirflowFailException as refused:
        refusal = str(refused)
        assert refusal.startswith("destination")
        assert store.read(key) is None
    else:
        assert store.read(key) == truth()
        assert result["uri"] == store.url(key, conn_id="")
    assert store.left_overs() == []


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("a/../b", r"\. or \.\."),
        ("../b", r"\. or \.\."),
        ("a/./b", r"\. or \.\."),
        ("a//b", r"\. or \.\."),
        ("a\nb", "control"),
        ("a\tb", "control"),
        ("a\x00b", "control"),
        ("a\ud800b", "control"),
        ("what?", "control"),
        ("a?versionId=1", "control"),
        ("back\\..\\slash", "control"),
        ("z" * 1025, "1024 bytes|name too long"),
        ("ä" * 513, "1024 bytes|name too long"),
    ],
    ids=lambda text: repr(text)[:12],
)
def test_a_name_that_would_become_another_is_refused_before_anything_is_read(server, store, export, key, why):
    with pytest.raises(AirflowFailException, match=rf"destination.*({why})"):
        export(store.url(key))
    assert not server.requests


@pytest.fixture(params=REMOTE)
def remote(request, started, monkeypatch):
    return connect(started(request.param), monkeypatch)


def test_a_missing_bucket_is_told(server, remote, export):
    with pytest.raises(Exception, match=r"(?i)bucket|container|not.?found|does not exist") as caught:
        export(remote.url("key", bucket="nosuchbucket"))
    assert not isinstance(caught.value, AirflowFailException)  # somebody may make it before the next try
    assert_found_before_stripe_was_asked(server, caught.value)


def assert_found_before_stripe_was_asked(server, error):
    """In one line, with what to do in the next, and without the client's own error."""
    assert not server.requests
    first, second = str(error).split("\n")
    assert first.startswith("destination: ")
    assert second.startswith(("Create", "Check", "Give"))
    assert error.__cause__ is error.__context__ is None


@pytest.mark.parametrize("name", ["rclone", "azurite"])
def test_wrong_credentials_are_told_and_not_shown(server, started, export, monkeypatch, caplog, name):
    """moto and the emulator of GCS take any."""
    store = connect(started(name), monkeypatch, secret="wrong-marked-secret")
    with caplog.at_level("DEBUG"), pytest.raises(Exception, match=r"(?i)signature|authenticat|denied|auth") as caught:
        export(store.url("key"))
    assert not isinstance(caught.value, AirflowFailException)  # they may have been renewed before the next try
    assert_found_before_stripe_was_asked(server, caught.value)
    for secret in ("wrong-marked-secret", "d3JvbmctbWFya2VkLXNlY3JldA", SECRET):
        assert secret not in "".join(traceback.format_exception(caught.value))
        assert secret not in caplog.text
    assert store.read("key") is None


def test_a_store_that_is_not_there_is_found_before_stripe_is_asked(server, remote, export, monkeypatch):
    connect(remote, monkeypatch, port=free_port())
    with pytest.raises(OSError, match="destination: ") as caught:
        export(remote.url("key"))
    assert_found_before_stripe_was_asked(server, caught.value)


def test_looking_at_the_store_leaves_nothing_behind(store, remote):
    check_store(open_destination(remote.url("never/written.jsonl")))
    assert remote.read("never/written.jsonl") is None
    assert remote.left_overs() == []


@pytest.mark.parametrize("library", VERIFIED_WITH)
def test_the_private_parts_of_the_libraries_were_verified_with_the_pinned_versions(library):
    """Where this fails, run these tests with the new version, and then write it into VERIFIED_WITH."""
    assert metadata.version(library) == VERIFIED_WITH[library]


@pytest.mark.parametrize(("name", "conn_id"), [("rclone", "minio_lake"), ("azurite", "azure_lake")])
def test_the_connections_of_the_page(server, started, export, truth, monkeypatch, name, conn_id):
    """Amazon's and Google's own are only read: nothing on this machine answers to them."""
    store = connect(started(name), monkeypatch)
    (block,) = re.findall(
        r"```bash\n(.*?AIRFLOW_CONN_AWS_LAKE.*?)```", (ROOT / "docs" / "object-storage.md").read_text(), re.DOTALL
    )
    block = block.rpartition("```bash\n")[2]
    environment = {
        "ACCESS_KEY": S3.login,
        "SECRET_KEY": SECRET,
        "ENDPOINT_URL": f"http://127.0.0.1:{store.port}",
        "AZURE_STORAGE_CONNECTION_STRING": getattr(store, "connection_string", ""),
    }
    command = ["bash", "-euc", block + "\nenv -0"]
    made = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    connections = dict(line.split("=", 1) for line in made.split("\0") if line.startswith("AIRFLOW_CONN_"))
    types = {name: Connection.from_json(text).conn_type for name, text in connections.items()}
    assert types == {
        "AIRFLOW_CONN_AWS_LAKE": "aws",
        "AIRFLOW_CONN_MINIO_LAKE": "aws",
        "AIRFLOW_CONN_GCS_LAKE": "google_cloud_platform",
        "AIRFLOW_CONN_AZURE_LAKE": "wasb",
    }
    for variable, text in connections.items():
        monkeypatch.setenv(variable, text)
    server.create_session(created=MAY_1)
    export(store.url("readme.jsonl", conn_id))
    assert store.read("readme.jsonl") == truth()


@pytest.mark.parametrize(
    ("scheme", "module", "extra"),
    [("s3", "s3fs", "amazon"), ("gs", "gcsfs", "google"), ("abfs", "adlfs", "microsoft")],
)
def test_a_missing_extra_is_told_with_what_to_install(server, export, monkeypatch, scheme, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(AirflowFailException, match=rf"pip install 'airflow-provider-stripe-identity\[{extra}\]'"):
        export(f"{scheme}://bucket/key")
    assert not server.requests


def test_an_account_that_is_not_given_is_no_missing_extra(server, export):
    with pytest.raises(AirflowFailException, match=r"destination: unable to connect to account") as caught:
        export("abfs://bucket/key")
    assert "pip install" not in str(caught.value)


@pytest.mark.parametrize(("extra", "module"), [("amazon", "s3fs"), ("google", "gcsfs"), ("microsoft", "adlfs")])
def test_an_extra_brings_the_provider_and_the_file_system(extra, module):
    (requirement,) = (
        text for text in metadata.requires("airflow-provider-stripe-identity") if f"extra == '{extra}'" in text
    )
    provider, wanted = re.match(r"([\w-]+)(?:\[(\w+)\])?", requirement).groups()
    (line,) = (text for text in metadata.requires(provider) if re.match(rf"{module}\b", text))
    assert ("extra" in line) == bool(wanted)
    assert not wanted or f'extra == "{wanted}"' in line
