"""Whether a person is verified: the one judgement that the sensor makes in every mode."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from airflow_provider_stripe_identity.stripe_api.errors import scrub
from airflow_provider_stripe_identity.stripe_api.parameters import STATUSES


class Verdict(NamedTuple):
    """
    What a reference's sessions say.

    :param session: the verified session's :func:`summary`, None while there is none
    :param failed: there are sessions and none of them can become verified any more
    :param because: the same in words, for log and error
    """

    session: dict[str, Any] | None
    failed: bool
    because: str


def judge(
    sessions: Iterable[Mapping[str, Any]],
    *,
    failure_statuses: Collection[str] = ("canceled",),
    created_gte: int | None = None,
) -> Verdict:
    """
    Judge the sessions of one reference.

    One verified session is enough, since a person may try again; all of them in ``failure_statuses`` is a failure;
    anything else, and any status that did not exist when this was written, is to be waited for.

    :param sessions: newest first; read no further than the first verified one
    :param failure_statuses: the statuses from which nothing good is expected any more
    :param created_gte: sessions created before then (epoch seconds) do not count
    """
    statuses: dict[str, int] = {}
    for session in sessions:
        if created_gte is not None and session["created"] < created_gte:
            continue
        status = session["status"]
        if status == "verified":
            return Verdict(summary(session), False, scrub(f"session {session['id']} is verified"))
        statuses[status] = statuses.get(status, 0) + 1
    if not statuses:
        return Verdict(None, False, "there is no session yet")
    because = ", ".join(f"{count} {status}" for status, count in statuses.items())
    if unknown := statuses.keys() - set(STATUSES):
        because += f" (this provider does not know {', '.join(sorted(unknown))})"
    return Verdict(None, statuses.keys() <= set(failure_statuses), scrub(f"its sessions are: {because}"))


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
