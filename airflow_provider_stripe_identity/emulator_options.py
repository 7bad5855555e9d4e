"""
How the embedded server is started as a program: by ``airflow stripe-identity emulator``, or as a Python module.

Every ``airflow`` command needs them to know its own options, and the server only to serve, so they are not beside it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "--host": {"default": "127.0.0.1", "help": "address to listen on (default: %(default)s)"},
    "--port": {"type": int, "default": 8042, "help": "0: any that is free (default: %(default)s)"},
    "--sessions": {"type": int, "default": 10_000, "help": "how many sessions to generate (default: %(default)s)"},
    "--days": {"type": float, "default": 1, "help": "over how many days they are spread (default: %(default)s)"},
    "--end": {"type": datetime.fromisoformat, "help": "end of these days, ISO 8601; by default now"},
    "--seed": {"type": int, "default": 0, "help": "another seed, other sessions"},
    "--api-key": {"default": "sk_test_embedded", "help": "the key to accept (default: %(default)s)"},
    "--latency": {"type": float, "default": 0.0, "help": "seconds that every answer takes"},
    "--rate-limit": {"type": int, "help": "requests a second that each endpoint accepts"},
    "--path-prefix": {"default": "", "help": "what all paths start with"},
    "--gateway": {"action": "store_true", "help": "need no key"},
}
