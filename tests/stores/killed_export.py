"""A warmed process that forks one export for each line on its input, and tells how far that export has come.

The lines are the operator's arguments as JSON. It answers with the process id, ``put`` when the upload begins, ``done``
when it is over, and at last ``end``, whether the export came to its end or was killed.
"""

import json
import os
import sys
import traceback
from typing import Any

from airflow_provider_stripe_identity.operators import export as operators


def say(word: object) -> None:
    os.write(1, f"{word}\n".encode())


def told(put: Any) -> Any:
    def put_and_tell(*arguments: Any) -> None:
        say("put")
        put(*arguments)
        say("done")

    return put_and_tell


def main() -> None:
    operators.put = told(operators.put)
    # What every export needs is imported before the forks, but nothing is opened: threads do not survive a fork.
    import requests  # noqa: F401

    operators.open_destination("file:///nowhere")
    if "s3" in sys.argv:
        import s3fs  # noqa: F401
    say("ready")
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                operators.StripeIdentityToObjectStorageOperator(task_id="export", **json.loads(line)).execute({})
            except BaseException:
                traceback.print_exc()
            os._exit(0)
        say(child)
        os.waitpid(child, 0)
        say("end")


if __name__ == "__main__":
    main()
