"""Several threads check pages at once."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from airflow_provider_stripe_identity._stripe_api.pages import EVENTS, VERIFICATION_SESSIONS

SESSION = {
    "object": "identity.verification_session",
    "id": "vs_1",
    "created": 1,
    "livemode": False,
    "status": "verified",
}
EVENT = {"object": "event", "id": "evt_1", "created": 1, "livemode": False, "type": "other", "data": {}}

#: Holds one thread in the middle of what msgspec builds for a type, until another one has used the type.
TWO_THREADS = """
import json
import sys
import threading

import msgspec

from airflow_provider_stripe_identity._stripe_api import pages

path, page = sys.argv[1], json.loads(sys.argv[2])
building, used = threading.Event(), threading.Event()
forward_ref = msgspec._utils._forward_ref


def held(annotation):
    if annotation == "_Text" and threading.current_thread() is first:
        building.set()
        used.wait()
    return forward_ref(annotation)


def check():
    print(pages.malformed(path, page), flush=True)
    building.set()


msgspec._utils._forward_ref = held
first = threading.Thread(target=check)
first.start()
building.wait()
check()
used.set()
first.join()
"""


@pytest.mark.parametrize(("path", "item"), [(VERIFICATION_SESSIONS, SESSION), (EVENTS, EVENT)])
def test_two_threads_may_check_the_first_pages_of_a_process_at_once(path, item):
    page = json.dumps({"object": "list", "data": [item], "has_more": False})
    done = subprocess.run([sys.executable, "-c", TWO_THREADS, path, page], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "None\nNone\n")
