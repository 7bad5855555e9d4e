"""Accounts that no other test has used: examples of a property share one emulator."""

from __future__ import annotations

import itertools

accounts = (f"acct_{number}" for number in itertools.count())
