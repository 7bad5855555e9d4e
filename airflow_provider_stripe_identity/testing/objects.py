"""Stripe's objects as the server knows them: what belongs in a session, a report and an event."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

Json = dict[str, Any]

API_VERSION = "2026-07-29.dahlia"
STRIPES_PAGES = "https://verify.stripe.com"
STATUSES = ("canceled", "processing", "requires_input", "verified")
EVENT_TYPES = tuple(
    f"identity.verification_session.{change}"
    for change in ("created", "processing", "verified", "requires_input", "canceled", "redacted")
)

# Every `last_error.code` of a session, the frequent ones of each kind first.
REASONS = {
    "document_unverified_other": "The document could not be verified.",
    "selfie_face_mismatch": "The face on the selfie is not the face on the document.",
    "document_expired": "The document has expired.",
    "selfie_unverified_other": "The selfie could not be verified.",
    "document_type_not_supported": "This type of document is not supported.",
    "selfie_document_missing_photo": "The document has no photo of a face.",
    "selfie_manipulated": "The selfie seems to be manipulated.",
    "id_number_mismatch": "The name or the date of birth does not belong to the ID number.",
    "id_number_unverified_other": "The ID number could not be verified.",
    "id_number_insufficient_document_data": "The document says too little to check the ID number.",
    "email_unverified_other": "The email address could not be verified.",
    "email_verification_declined": "The email address was not confirmed.",
    "phone_unverified_other": "The phone number could not be verified.",
    "phone_verification_declined": "The phone number was not confirmed.",
    "abandoned": "The verification was not completed.",
    "consent_declined": "Consent was declined.",
    "device_not_supported": "The device has no camera.",
    "country_not_supported": "The country of the document is not supported.",
    "under_supported_age": "The person is too young.",
}
# The person never got as far as a check, so there is no report.
WITHOUT_REPORT = (
    "abandoned",
    "consent_declined",
    "device_not_supported",
    "country_not_supported",
    "under_supported_age",
)

_FIRST_NAMES = ("Jenny", "Zoë", "José", "Łukasz", "Nguyễn", "Siobhán", "さくら", "Conan", "محمد", "Ana")
_LAST_NAMES = ("Rosen", "O'Neill", "Müller", "Szczepański", "Văn", "van der Berg", "山田", 'de "la" Cruz', "Öz", "Li")
_CITIES = (("San Francisco", "CA", "US"), ("Zürich", "ZH", "CH"), ("São Paulo", "SP", "BR"), ("Dublin", None, "IE"))
_ID_NUMBERS = (("us_ssn", "000-00-"), ("br_cpf", "000.000.000-"), ("sg_nric", "S000000"))
# What a report may hold
_CHECKS = ("document", "id_number", "selfie", "email", "phone")
# These say what happened, not to whom.
_NOT_PERSONAL = ("status", "type", "code", "reason", "id_number_type")


def last_error(code: str) -> Json:
    """
    Return a session's `last_error`.

    :param code: one of `REASONS`, or any other: Stripe adds codes
    """
    return {"code": code, "reason": REASONS.get(code, "The verification failed.")}


def credentials(session_id: str, livemode: bool, pages: str = STRIPES_PAGES) -> Json:
    """
    Return `client_secret` and `url`, which a session has while the person can still use them.

    :param session_id: the session's id
    :param livemode: whether the session is a live one
    :param pages: where the page is on which the person is verified
    """
    mode, secret = "live" if livemode else "test", session_id[4:]
    return {
        "client_secret": f"{session_id}_secret_{mode}_{secret}",
        "url": f"{pages}/start/{mode}_{secret}",
    }


def erased(session: Json) -> Json:
    """
    Return a session as it is after redaction.

    :param session: any snapshot of it
    """
    return {
        **session,
        "client_secret": None,
        "url": None,
        "metadata": {},
        "provided_details": _without_person(session["provided_details"]),
        "redaction": {"status": "redacted"},
    }


def is_redacted(session: Json) -> bool:
    """
    Tell whether the redaction of a session is complete.

    :param session: the session
    """
    return bool(session["redaction"]) and session["redaction"]["status"] == "redacted"


def verified_outputs(session: Json, outputs: Json | None = None) -> Json | None:
    """
    Return what expanding `verified_outputs` shows: always the same person for the same session.

    :param session: the session
    :param outputs: what to show instead of an invented person
    """
    if session["status"] != "verified":
        return None
    if outputs is None:
        person = _person(session["id"])
        outputs = {name: person[name] for name in person if name not in ("number", "issuing_country")}
        if session["type"] != "id_number":
            outputs |= {"id_number": None, "id_number_type": None}
        if session["type"] != "verification_flow":
            outputs |= {"email": None, "phone": None}
    redacted: Json = _without_person(outputs) if is_redacted(session) else outputs
    return redacted


def verification_report(session: Json, created: int) -> Json:
    """
    Return the report of one attempt.

    :param session: the session right after the attempt
    :param created: when the attempt ended
    """
    person = _person(session["id"])
    options = session["options"] or {}
    error = session["last_error"]
    code = (error and error["code"]) or ""
    checks: Json = {}

    def check(name: str, usual: bool, *found: str, **more: Any) -> None:
        failed = code.startswith(name)
        if usual or failed:
            data = {field: person[field] for field in found} | more
            if failed:
                checks[name] = {**dict.fromkeys(data), "error": error, "status": "unverified"}
            else:
                checks[name] = {**data, "error": None, "status": "verified"}

    check(
        "document",
        session["type"] != "id_number",
        *("address", "dob", "first_name", "issuing_country", "last_name", "number", "sex"),
        expiration_date={"day": 1, "month": 12, "year": 2030},
        issued_date={"day": 1, "month": 12, "year": 2020},
        files=[f"file_1{session['id'][4:]}"],
        type="passport",
    )
    check(
        "id_number",
        session["type"] == "id_number",
        *("dob", "first_name", "id_number", "id_number_type", "last_name"),
    )
    selfie = options.get("document", {}).get("require_matching_selfie", False)
    check("selfie", selfie, document=f"file_2{session['id'][4:]}", selfie=f"file_3{session['id'][4:]}")
    for name in ("email", "phone"):
        check(name, session["type"] == "verification_flow", name)
    report = {
        "id": session["last_verification_report"],
        "object": "identity.verification_report",
        "client_reference_id": session["client_reference_id"],
        "created": created,
        "livemode": session["livemode"],
        "options": {name: options[name] for name in ("document", "id_number") if name in options},
        "type": session["type"],
        "verification_session": session["id"],
        **checks,
    }
    if "verification_flow" in session:
        report["verification_flow"] = session["verification_flow"]
    return report


def erased_report(report: Json) -> Json:
    """
    Return a report as it is after the redaction of its session.

    :param report: the report
    """
    return report | {name: _without_person(report[name]) for name in _CHECKS if name in report}


def event(event_id: str, event_type: str, created: int, session: Json) -> Json:
    """
    Return an event about a session.

    :param event_id: the event's id
    :param event_type: what happened: created, verified, …
    :param created: when it happened
    :param session: the session right afterwards
    """
    return {
        "id": event_id,
        "object": "event",
        "api_version": API_VERSION,
        "created": created,
        "data": {"object": session},
        "livemode": session["livemode"],
        "pending_webhooks": 0,
        "request": {"id": None, "idempotency_key": None},
        "type": f"identity.verification_session.{event_type}",
    }


def _person(session_id: str) -> Json:
    roll = blake2b(session_id.encode(), digest_size=8).digest()
    city, state, country = _CITIES[roll[2] % len(_CITIES)]
    id_number_type, digits = _ID_NUMBERS[roll[3] % len(_ID_NUMBERS)]
    return {
        "address": {
            "city": city,
            "country": country,
            "line1": f"{roll[4]} Main St.",
            "line2": None,
            "postal_code": f"{roll[5]:05}",
            "state": state,
        },
        "dob": {"day": roll[4] % 28 + 1, "month": roll[5] % 12 + 1, "year": 1940 + roll[6] % 66},
        "email": f"person{roll[7]}@example.com",
        "first_name": _FIRST_NAMES[roll[0] % len(_FIRST_NAMES)],
        "id_number": f"{digits}{roll[6]:04}",
        "id_number_type": id_number_type,
        "issuing_country": country,
        "last_name": _LAST_NAMES[roll[1] % len(_LAST_NAMES)],
        "number": f"X{roll[6]:03}{roll[7]:05}",
        "phone": f"+15555550{roll[7]:03}",
        "sex": ("female", "male", "unknown")[roll[0] % 3],
        "unparsed_place_of_birth": city.upper(),
        "unparsed_sex": "FM<"[roll[0] % 3],
    }


def _without_person(value: Any) -> Any:
    """Replace text as Stripe does; numbers (of dates) have no placeholder and become null."""
    if isinstance(value, dict):
        return {name: v if name in _NOT_PERSONAL else _without_person(v) for name, v in value.items()}
    if isinstance(value, list):
        return [_without_person(item) for item in value]
    return "[redacted]" if isinstance(value, str) else None
