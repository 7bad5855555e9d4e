"""The emulator with a clock that the test sets."""

from __future__ import annotations

from airflow_provider_stripe_identity.testing import StripeIdentityServer


class ClockedEmulator(StripeIdentityServer):
    def __init__(self, now: int) -> None:
        self.now = now
        super().__init__(clock=lambda: self.now)
