"""The fields of a row: the one table from which rows, warehouse columns, JSON schema and lineage are derived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

Type = Literal["boolean", "integer", "json", "text"]


class Field(NamedTuple):
    """
    One top-level field of a row.

    :param nullable: whether it may be null or absent
    :param personal: whether it holds personal data, so that it is written only when asked for
    :param secret: whether it is a single-use credential, which is never written
    :param from_account: whether it says which of several accounts the row was read from
    :param from_event: whether it describes the event that a row of changes comes from
    """

    name: str
    type: Type
    description: str
    nullable: bool = False
    personal: bool = False
    secret: bool = False
    from_event: bool = False
    from_account: bool = False


FIELDS = (
    Field("id", "text", "id of the VerificationSession (vs_…)"),
    Field("object", "text", "always identity.verification_session"),
    Field("created", "integer", "epoch seconds; never changes"),
    Field("livemode", "boolean", "false in a sandbox"),
    Field("status", "text", "requires_input, processing, verified or canceled"),
    Field("type", "text", "document, id_number or verification_flow"),
    Field("client_reference_id", "text", "your reference to the person", nullable=True),
    Field("last_error", "json", "code and reason of the last failed check", nullable=True),
    Field("last_verification_report", "text", "id of the last report (vr_…)", nullable=True),
    Field("metadata", "json", "your keys and values; empty after redaction"),
    Field("options", "json", "options of the checks", nullable=True),
    Field("redaction", "json", "status: processing or redacted", nullable=True),
    Field("related_customer", "text", "Customer (cus_…)", nullable=True),
    Field("related_customer_account", "text", "Account that represents a customer", nullable=True),
    Field("related_person", "json", "Account and Person", nullable=True),
    Field("verification_flow", "text", "configuration of the flow (vf_…)", nullable=True),
    Field("provided_details", "json", "email and phone that you provided", nullable=True, personal=True),
    Field("verified_outputs", "json", "the verified data of the person", nullable=True, personal=True),
    Field("client_secret", "text", "opens the session in Stripe.js", nullable=True, secret=True),
    Field("url", "text", "opens the session in a browser", nullable=True, secret=True),
    Field("_event_id", "text", "event that the row comes from; null in an export", nullable=True, from_event=True),
    Field(
        "_event_type",
        "text",
        "what happened, e.g. identity.verification_session.verified",
        nullable=True,
        from_event=True,
    ),
    Field("_event_created", "integer", "when it happened, epoch seconds", nullable=True, from_event=True),
    Field(
        "_stripe_account",
        "text",
        "account that the row was read from (acct_…); null unless stripe_accounts was set",
        nullable=True,
        from_account=True,
    ),
)

#: Fields without secrets; of the person they hold at most what you put into ``metadata``.
DEFAULT_FIELDS = tuple(
    field.name for field in FIELDS if not (field.personal or field.secret or field.from_event or field.from_account)
)
PERSONAL_FIELDS = tuple(field.name for field in FIELDS if field.personal)
SECRET_FIELDS = tuple(field.name for field in FIELDS if field.secret)
EVENT_FIELDS = tuple(field.name for field in FIELDS if field.from_event)
ACCOUNT_FIELD = next(field.name for field in FIELDS if field.from_account)

#: Names of top-level fields, or all but the secret ones.
Fields = Sequence[str] | Literal["all"]
