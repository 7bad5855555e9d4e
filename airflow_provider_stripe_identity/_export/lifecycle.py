"""Which of a session's events in one second is the last: Stripe does not say in which order it lists them."""

from __future__ import annotations

#: In one second a session goes this way and no other: only a person can begin the next try, and that takes longer.
LIFECYCLE = ("created", "processing", "requires_input", "canceled", "verified", "redacted")

_STEPS = {f"identity.verification_session.{change}": step for step, change in enumerate(LIFECYCLE)}


def lifecycle_step(event_type: str) -> int:
    """Return how far an event of this type is in the lifecycle; -1 for a type that is not known."""
    return _STEPS.get(event_type, -1)
