"""Whether a person is verified: the one rule, in every mode of the sensor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from airflow_provider_stripe_identity._stripe_api.errors import scrub
from airflow_provider_stripe_identity._stripe_api.parameters import STATUSES


class Verdict(NamedTuple):
    """
    What a reference's sessions say.

    :param session: the verified session's :func:`summary`, None while there is none
    :param failed: there are sessions and none of them can become verified any more
    :param reason: the same as text, for logs and errors
    :param statuses: of each session read, by its id
    """

    session: dict[str, Any] | None
    failed: bool
    reason: str
    statuses: Mapping[str, str] = {}


def evaluate(
    sessions: Iterable[Mapping[str, Any]],
    *,
    failure_statuses: Collection[str] = ("canceled",),
    created_gte: int | None = None,
) -> Verdict:
    """
    Evaluate the sessions of one reference.

    One verified session is enough, since a person may try again; all of them in ``failure_statuses`` is a failure;
    anything else, and any status that did not exist when this was written, is to be waited for.

    :param sessions: newest first; read no further than the first verified one
    :param failure_statuses: the statuses from which verification is no longer expected
    :param created_gte: sessions created before then (epoch seconds) do not count
    """
    statuses: dict[str, str] = {}
    for session in sessions:
        if created_gte is not None and session["created"] < created_gte:
            continue
        statuses[session["id"]] = session["status"]
        if session["status"] == "verified":
            return Verdict(summary(session), False, scrub(f"session {session['id']} is verified"), statuses)
    if not statuses:
        return Verdict(None, False, "there is no session yet")
    counts = Counter(statuses.values())
    reason = "its sessions are: " + ", ".join(f"{count} {status}" for status, count in counts.items())
    if unknown := counts.keys() - set(STATUSES):
        reason += f" (this provider does not know {', '.join(sorted(unknown))})"
    return Verdict(None, counts.keys() <= set(failure_statuses), scrub(reason), statuses)


def summary(session: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a DAG goes on with; nothing secret or personal is among it."""
    report = session.get("last_verification_report")
    return {
        "id": session["id"],
        "status": session["status"],
        "client_reference_id": session.get("client_reference_id"),
        "created": session["created"],
        "livemode": session["livemode"],
        "type": session.get("type"),
        "last_verification_report": report.get("id") if isinstance(report, Mapping) else report,
    }
