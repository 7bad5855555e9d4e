"""
Two questions that only the history can answer, as the queries of two views.

:func:`timeline` has one row per session: what happened to it when, and how long it took. :func:`funnel` has one row per
day of creation and type. What a column means stands beside it in the query. What holds for all of them:

* **Times** are those of the events in the table, ``_event_created``, in UTC. A time is null when that event is missing:
  it has not happened, or it happened before the history began, or in a window that was never loaded. ``created_at`` is
  known of every session, because every event has it.
* **An attempt** begins with a ``processing`` event: the person has submitted everything. It ends with a verdict, the
  next ``verified`` or ``requires_input`` event. A verdict without a ``processing`` event directly before it is an
  attempt as well: a person who declines consent is refused before anything is processed, and an event may be missing.
  Cancellation and redaction are no verdicts.
* **Order** is that of the events' seconds. Stripe does not say in which order the events of one second happened, so the
  lifecycle decides: ``created``, then each ``processing`` with a verdict after it (``requires_input`` before
  ``verified``), then ``canceled``, then ``redacted``. What the lifecycle leaves open goes by ``_event_id``.
* **Sessions from before the history began** are in the timeline with what is known of them, and ``complete`` is false.
  They are not in the funnel: of their day it would count only those to which something happened later.
"""

from __future__ import annotations

from airflow_provider_stripe_identity.schema.columns import Dialect, checked, json_text

_TIMESTAMPS: dict[Dialect, str] = {
    "bigquery": "TIMESTAMP_SECONDS({})",
    "duckdb": "MAKE_TIMESTAMP({} * 1000000)",
    "postgres": "TO_TIMESTAMP({})",
    "redshift": "TIMESTAMP 'epoch' + {} * INTERVAL '1 second'",
    "snowflake": "TO_TIMESTAMP_NTZ({})",
}
_DAYS: dict[Dialect, str] = {
    "bigquery": "DATE(created_at)",
    "duckdb": "CAST(created_at AS DATE)",
    "postgres": "CAST(created_at AT TIME ZONE 'UTC' AS DATE)",
    "redshift": "CAST(created_at AS DATE)",
    "snowflake": "CAST(created_at AS DATE)",
}

_TIMELINE = """\
WITH happened AS (
    SELECT id, created, type, client_reference_id, status, last_verification_report, _event_id, _event_created,
        {error_code} AS error_code,
        REPLACE(_event_type, 'identity.verification_session.', '') AS what,
        CASE _event_type
            WHEN 'identity.verification_session.processing' THEN 1
            WHEN 'identity.verification_session.requires_input' THEN 2
            WHEN 'identity.verification_session.verified' THEN 2
            ELSE 0
        END AS step  -- of an attempt: 1 begins it, 2 is its verdict
    FROM {table} AS event
), numbered AS (
    -- In one second the first verdict belongs to the first processing, the second to the second.
    SELECT happened.*,
        ROW_NUMBER() OVER (
            PARTITION BY id, _event_created, step ORDER BY CASE what WHEN 'verified' THEN 1 ELSE 0 END, _event_id
        ) AS number_in_second,
        CASE what WHEN 'created' THEN 0 WHEN 'canceled' THEN 2 WHEN 'redacted' THEN 3 ELSE 1 END AS stage
    FROM happened
), ordered AS (
    SELECT numbered.*,
        ROW_NUMBER() OVER (
            PARTITION BY id ORDER BY _event_created DESC, stage DESC, number_in_second DESC, step DESC
        ) AS from_last,
        ROW_NUMBER() OVER (PARTITION BY id, what ORDER BY _event_created, number_in_second) AS from_first_of_kind,
        ROW_NUMBER() OVER (
            PARTITION BY id, CASE step WHEN 0 THEN 0 ELSE 1 END
            ORDER BY _event_created DESC, number_in_second DESC, step DESC
        ) AS from_last_of_attempts,
        LAG(step) OVER (
            PARTITION BY id, CASE step WHEN 0 THEN 0 ELSE 1 END ORDER BY _event_created, number_in_second, step
        ) AS step_before,
        LAG(_event_created) OVER (
            PARTITION BY id, CASE step WHEN 0 THEN 0 ELSE 1 END ORDER BY _event_created, number_in_second, step
        ) AS second_before
    FROM numbered
), sessions AS (
    SELECT id,
        MAX(CASE from_last WHEN 1 THEN type END) AS type,
        MAX(CASE from_last WHEN 1 THEN client_reference_id END) AS client_reference_id,
        MAX(CASE from_last WHEN 1 THEN status END) AS last_status,
        MAX(created) AS created,
        MAX(CASE what WHEN 'created' THEN 1 ELSE 0 END) AS complete,
        MAX(CASE WHEN what IN ('processing', 'verified') OR last_verification_report IS NOT NULL THEN 1 ELSE 0 END)
            AS submitted,
        MIN(CASE what WHEN 'processing' THEN _event_created END) AS first_processing,
        MIN(CASE what WHEN 'requires_input' THEN _event_created END) AS first_failure,
        MAX(CASE WHEN what = 'requires_input' AND from_first_of_kind = 1 THEN error_code END) AS first_failure_code,
        MIN(CASE what WHEN 'verified' THEN _event_created END) AS verified,
        MIN(CASE what WHEN 'canceled' THEN _event_created END) AS canceled,
        MIN(CASE what WHEN 'redacted' THEN _event_created END) AS redacted,
        COUNT(CASE WHEN step = 1 OR (step = 2 AND COALESCE(step_before, 2) = 2) THEN 1 END) AS attempts,
        MAX(
            CASE WHEN step = 2 AND step_before = 1 AND from_last_of_attempts = 1 THEN _event_created - second_before END
        ) AS seconds_to_verdict
    FROM ordered
    GROUP BY id
)
SELECT
    id,  -- of the VerificationSession
    type,  -- as its last event says, like the next two
    client_reference_id,
    last_status,  -- requires_input, processing, verified or canceled
    complete = 1 AS complete,  -- whether its created event is in the table
    submitted = 1 AS submitted,  -- whether a check was ever made: a processing or verified event, or a report
    {created_at} AS created_at,
    {first_processing_at} AS first_processing_at,
    {first_failure_at} AS first_failure_at,  -- of the first requires_input event
    first_failure_code,  -- code of that event's last_error
    {verified_at} AS verified_at,
    {canceled_at} AS canceled_at,
    {redacted_at} AS redacted_at,
    attempts,  -- the one in progress included
    verified - created AS seconds_to_verified,  -- from the creation of the session
    seconds_to_verdict  -- of the last attempt, from its processing event; null while it lasts or without that event
FROM sessions
"""

_FUNNEL = """\
WITH sessions AS (
    SELECT timeline.*, {day} AS day,
        -- Of the sessions with a time to verify: the share of those that were not slower.
        CUME_DIST() OVER (
            PARTITION BY {day}, type, CASE WHEN seconds_to_verified IS NULL THEN 0 ELSE 1 END
            ORDER BY seconds_to_verified
        ) AS share
    FROM {timeline} AS timeline
    WHERE complete
)
SELECT
    day,  -- on which the sessions were created, in UTC
    type,
    COUNT(*) AS created,
    COUNT(CASE WHEN submitted THEN 1 END) AS submitted,  -- of those created, like all that follow
    COUNT(CASE last_status WHEN 'verified' THEN 1 END) AS verified,
    COUNT(CASE last_status WHEN 'canceled' THEN 1 END) AS canceled,
    COUNT(CASE WHEN last_status NOT IN ('verified', 'canceled') THEN 1 END) AS still_open,  -- all others
    COUNT(CASE WHEN seconds_to_verified <= 600 THEN 1 END) AS verified_within_10_minutes,
    COUNT(CASE WHEN seconds_to_verified <= 3600 THEN 1 END) AS verified_within_1_hour,
    COUNT(CASE WHEN seconds_to_verified <= 86400 THEN 1 END) AS verified_within_1_day,
    -- Within so many seconds at least half, and 90 %, of the verified sessions were verified.
    MIN(CASE WHEN share >= 0.5 THEN seconds_to_verified END) AS median_seconds_to_verified,
    MIN(CASE WHEN share >= 0.9 THEN seconds_to_verified END) AS p90_seconds_to_verified,
    AVG(CASE last_status WHEN 'verified' THEN 1.0 * attempts END) AS attempts_per_verified_session
FROM sessions
GROUP BY day, type
"""


def timeline(dialect: Dialect, table: str) -> str:
    """
    Return the query of a view with one row per session: when it was created, submitted, verified and so on.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param table: the table of events, made by :func:`~airflow_provider_stripe_identity.schema.events.ddl` with the
        default fields, or more
    :raises ValueError: naming the argument
    """
    timestamp = _TIMESTAMPS[checked(dialect)]
    moments = ("created", "first_processing", "first_failure", "verified", "canceled", "redacted")
    return _TIMELINE.format(
        table=table,
        error_code=json_text(dialect, "event.last_error", "code"),
        **{f"{moment}_at": timestamp.format(moment) for moment in moments},
    )


def funnel(dialect: Dialect, timeline: str) -> str:
    """
    Return the query of a view with one row per day and type: how many sessions came how far, and how fast.

    :param dialect: one of :data:`~airflow_provider_stripe_identity.schema.DIALECTS`
    :param timeline: the view of :func:`timeline`, or that query in brackets
    :raises ValueError: naming the argument
    """
    return _FUNNEL.format(day=_DAYS[checked(dialect)], timeline=timeline)
