"""
How the emulator is started as a program: by ``airflow stripe-identity emulator``, or as a Python module.

Every ``airflow`` command needs them to know its own options, and the server only to serve, so they are not beside it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "--host": {"default": "127.0.0.1", "help": "address to listen on (default: %(default)s)"},
    "--port": {"type": int, "default": 8042, "help": "0: any that is free (default: %(default)s)"},
    "--sessions": {"type": int, "default": 10_000, "help": "how many sessions to generate (default: %(default)s)"},
    "--days": {
        "type": int,
        "default": 1,
        "help": "past days (UTC) to cover, in addition to today (default: %(default)s)",
    },
    "--end": {"type": datetime.fromisoformat, "help": "latest creation time, ISO 8601 (default: now)"},
    "--seed": {"type": int, "default": 0, "help": "seed of the generated sessions"},
    "--api-key": {"default": "sk_test_emulator", "help": "the key to accept (default: %(default)s)"},
    "--key-without-events": {"metavar": "KEY", "help": "a second API key without permission to read events"},
    "--latency": {"type": float, "default": 0.0, "help": "latency of every response, in seconds"},
    "--rate-limit": {"type": int, "help": "rate limit of each endpoint, in requests per second"},
    "--path-prefix": {"default": "", "help": "prefix of all paths"},
    "--gateway": {"action": "store_true", "help": "accept requests without an API key, as a gateway does"},
}
