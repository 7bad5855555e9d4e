"""
Any number of VerificationSessions without holding them: session `i` is a function of the seed and `i`.

People try again a few minutes after a failure. So sessions are dealt out in columns of four, one every
`_RETRY_AFTER` seconds, and a pattern says which of the four belong to the same person. Names of people
contain the number of their first session, which is how a filter finds all of theirs without a search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from math import pi, sin
from typing import Any

from .objects import (
    REASONS,
    STRIPES_PAGES,
    WITHOUT_REPORT,
    Json,
    credentials,
    erased,
    event,
    last_error,
    verification_report,
)

_RETRY_AFTER = 300
# For each of a column's four rows: the rows of the first and of the last attempt of its person.
_PATTERNS = [
    [(first, first + length - 1) for first, length in runs for _ in range(length)]
    for runs in (
        *[[(0, 1), (1, 1), (2, 1), (3, 1)]] * 6,
        [(0, 2), (2, 1), (3, 1)],
        [(0, 1), (1, 2), (3, 1)],
        [(0, 1), (1, 1), (2, 2)],
        [(0, 2), (2, 2)],
        [(0, 1), (1, 3)],
        [(0, 4)],
    )
]
_ROWS = 4

_CODES = {
    "document": [code for code in REASONS if code.startswith(("document", "selfie"))],
    "id_number": [code for code in REASONS if code.startswith("id_number")],
    "verification_flow": [code for code in REASONS if code.startswith(("email", "phone"))],
}
_METADATA: list[dict[str, str]] = [
    {},
    {"order_id": "6735"},
    {"plan": "größer", "source": "web"},
    {"note": 'She said "hé", then left'},
    {"path": "C:\\kyc\\new", "lines": "one\ntwo", "emoji": "🎉", "language": "日本語"},
]
_OPTIONS: dict[str, list[Json]] = {
    "document": [
        {"document": {"require_matching_selfie": True}},
        {"document": {"allowed_types": ["passport", "id_card"], "require_live_capture": True}},
        {"document": {}},
    ],
    "id_number": [{"id_number": {}}],
    "verification_flow": [{"document": {}, "email": {"require_verification": True}, "phone": {}}],
}
# Fields that name a person: <prefix><tag of the population><number of the first session>
_NAMES = {"client_reference_id": "user_", "related_customer": "cus_", "related_customer_account": "acct_1"}

# What happens to a session how many seconds after its creation. Constant, so each stage is in order too.
STAGES = (0, 60, 90, 3600)
CREATED, PROCESSING, OUTCOME, REDACTED = range(4)


class Population:
    """
    A stream of generated sessions, oldest first, and of those that were changed since.

    :param count: how many
    :param start: when the first may be created
    :param end: when the last is created, exclusive
    :param seed: another seed, another population
    :param rank: where this stream stands among those of the account
    :param account: the account it belongs to; ids differ between accounts
    :param livemode: whether they are live sessions
    :param pages: returns the address of a session's verification page
    """

    def __init__(
        self,
        count: int,
        start: int,
        end: int,
        *,
        seed: int,
        rank: int,
        account: str,
        livemode: bool,
        pages: Callable[[], str] = lambda: STRIPES_PAGES,
    ) -> None:
        if count < 0 or (count and start >= end):
            raise ValueError("a population needs a count of 0 or more and a start before its end")
        self.pages = pages
        self._end = end
        self.changed: dict[int, Json] = {}
        self._count, self._start, self._span = count, start, end - start
        self._rank, self._livemode = rank, livemode
        self._key = blake2b(f"{account} {rank} {seed}".encode(), digest_size=32).digest()
        self._tag = self._key.hex()[:4]
        self._days = max(1, round(self._span / 86400))
        self._stride = max(1, round(_RETRY_AFTER * count / self._span)) if count else 1

    def __len__(self) -> int:
        return self._count

    def key(self, i: int) -> tuple[int, ...]:
        """Return the place of a session in the order of all sessions."""
        return self.created(i), self._rank, i

    def created(self, i: int) -> int:
        """Return when session `i` was created: within its share of the period, most in the middle of a day."""
        u = (i + int.from_bytes(self._roll(i)[8:11], "big") / (1 << 24)) / self._count
        turns = 2 * pi * self._days
        return min(self._start + int(self._span * (u + 0.6 / turns * sin(turns * u))), self._end - 1)

    def moment(self, i: int, stage: int) -> int:
        """Return when session `i` reaches a stage of its life; never after a population that ends now."""
        return min(self.created(i) + STAGES[stage], self._end - 1)

    def find(self, session_id: str) -> int | None:
        """Return the number that an id of this population contains."""
        prefix, digits = session_id[:4], session_id[4:]
        try:
            i = int(digits[16:], 16) ^ int(digits[:8], 16)
        except ValueError:
            return None
        known = prefix == "vs_1" and 0 <= i < self._count and self._id(self._roll(i)) == digits
        return i if known else None

    def candidates(self, wanted: dict[str, Any], low: int, high: int) -> Sequence[int]:
        """Return the numbers of all sessions in a range that can match: few, if a person is named."""
        for name, prefix in _NAMES.items():
            if name in wanted:
                numbers = {*self.changed}.union(*(self._attempts(prefix, value) for value in wanted[name]))
                return sorted(i for i in numbers if low <= i < high)
        return range(low, high)

    def match(self, i: int, wanted: dict[str, Any]) -> Json | None:
        """Return session `i` if it is one of those that are wanted."""
        if i not in self.changed and "status" in wanted and self._outcome(i, self._roll(i))[0] not in wanted["status"]:
            return None  # most of a scan ends here, without building a session
        session = self.item(i)
        return session if all(session.get(name) in values for name, values in wanted.items()) else None

    def item(self, i: int) -> Json:
        """Return session `i` as it is now."""
        return self.changed.get(i) or self.generated(i)

    def generated(self, i: int) -> Json:
        """Return session `i` as it was generated."""
        roll = self._roll(i)
        first = self._attempt(i)[0]
        person = self._roll(first)
        status, code, redaction = self._outcome(i, roll)
        digits = self._id(roll)
        session_id, session_type = f"vs_1{digits}", self._type(person)
        name = f"{self._tag}{first:010}"
        usable = status in ("requires_input", "processing")
        has_report = status == "verified" or (code is not None and code not in WITHOUT_REPORT)
        options = _OPTIONS[session_type]
        session: Json = {
            "id": session_id,
            "object": "identity.verification_session",
            "client_reference_id": f"user_{name}" if person[12] >= 26 else None,
            "client_secret": None,
            "created": self.created(i),
            "last_error": last_error(code) if code else None,
            "last_verification_report": f"vr_1{digits}" if has_report else None,
            "livemode": self._livemode,
            "metadata": dict(_METADATA[roll[14] % len(_METADATA)]),
            "options": options[person[15] % len(options)],
            "provided_details": {"email": f"person{first}@example.com"} if person[16] < 40 else None,
            "redaction": {"status": redaction} if redaction else None,
            "related_customer": f"cus_{name}" if person[17] < 50 else None,
            "related_customer_account": f"acct_1{name}" if person[17] >= 240 else None,
            "status": status,
            "type": session_type,
            "url": None,
        }
        if usable:
            session |= credentials(session_id, self._livemode, self.pages())
        if session_type == "verification_flow":
            session["verification_flow"] = f"vf_1{self._tag}{person[15] % 3:020}"
        return erased(session) if redaction == "redacted" else session

    def happened(self, i: int, stage: int) -> str | None:
        """Return what happened to session `i` at a stage of its life, if anything did."""
        status, code, redaction = self._outcome(i, self._roll(i))
        checked = status in ("verified", "processing") or (code is not None and code not in WITHOUT_REPORT)
        if stage == CREATED:
            return "created"
        if stage == PROCESSING:
            return "processing" if checked else None
        if stage == OUTCOME:
            return status if status in ("verified", "canceled") or code else None
        return "redacted" if redaction == "redacted" else None

    def _roll(self, i: int) -> bytes:
        """Return the dice of session `i`: a byte a decision, the first eight for its id, three for its time."""
        return blake2b(i.to_bytes(8, "big"), key=self._key, digest_size=24).digest() + i.to_bytes(4, "big")

    @staticmethod
    def _id(roll: bytes) -> str:
        """Return proof of the number, and the number hidden by the proof."""
        number = int.from_bytes(roll[:4], "big") ^ int.from_bytes(roll[24:], "big")
        return f"{roll[:8].hex()}{number:08x}"

    def _attempt(self, i: int) -> tuple[int, int]:
        """Return the numbers of the first and the last attempt of the person of session `i`."""
        row = i // self._stride % _ROWS
        top = i - row * self._stride
        first, last = _PATTERNS[self._roll(top)[11] % len(_PATTERNS)][row]
        while top + last * self._stride >= self._count:
            last -= 1
        return top + first * self._stride, top + last * self._stride

    def _attempts(self, prefix: str, name: str) -> Iterable[int]:
        digits = name.removeprefix(prefix + self._tag)
        if len(digits) != 10 or not digits.isdecimal() or int(digits) >= self._count:
            return ()
        first, last = self._attempt(int(digits))
        return range(first, last + 1, self._stride)

    @staticmethod
    def _type(person: bytes) -> str:
        return "document" if person[13] < 200 else "id_number" if person[13] < 230 else "verification_flow"

    def _outcome(self, i: int, roll: bytes) -> tuple[str, str | None, str | None]:
        """Return the status, the code of the last error and the status of the redaction of session `i`."""
        first, last = self._attempt(i)
        dice = roll[18]
        if i != last:
            status, failed = ("requires_input", True) if dice < 230 else ("canceled", False)
        elif dice < 218:
            status, failed = "verified", False
        elif dice < 240:
            status, failed = "requires_input", dice < 232
        else:
            status, failed = ("canceled", False) if dice < 253 else ("processing", False)
        code = None
        if failed:
            codes = [*_CODES[self._type(self._roll(first))], *WITHOUT_REPORT]
            code = codes[int(len(codes) * (roll[19] / 256) ** 2)]
        redaction = None
        if status in ("verified", "canceled") and roll[20] < 6:
            redaction = "redacted" if roll[20] < 5 else "processing"
        return status, code, redaction


class PopulationEvents:
    """
    A stream of the events of one stage in the lives of a population, oldest first.

    :param population: the sessions
    :param stage: which of `STAGES`
    """

    def __init__(self, population: Population, stage: int) -> None:
        self._population, self._stage = population, stage

    def __len__(self) -> int:
        return len(self._population)

    def key(self, i: int) -> tuple[int, ...]:
        """Return the place of an event in the order of all events."""
        _, *rest = self._population.key(i)
        return self._population.moment(i, self._stage), *rest, self._stage

    def find(self, event_id: str) -> int | None:
        """Return the number of the session that an event id of this stage contains."""
        if not event_id.startswith("evt_1") or not event_id.endswith(str(self._stage)):
            return None
        i = self._population.find(f"vs_1{event_id[5:-1]}")
        return i if i is not None and self._population.happened(i, self._stage) else None

    def candidates(self, wanted: dict[str, Any], low: int, high: int) -> Sequence[int]:
        """Return the numbers of all sessions in a range."""
        return range(low, high)

    def match(self, i: int, wanted: dict[str, Any]) -> Json | None:
        """Return what happened to session `i`, if it did and is wanted."""
        happened = self._population.happened(i, self._stage)
        types = wanted.get("type")
        if not happened or (types is not None and f"identity.verification_session.{happened}" not in types):
            return None
        return self.item(i)

    def item(self, i: int) -> Json:
        """Return what happened to session `i`."""
        session = self._population.generated(i)
        before: Json = {"last_error": None, "last_verification_report": None, "redaction": None}
        if self._stage <= PROCESSING:
            session |= before | {"status": "requires_input" if self._stage == CREATED else "processing"}
            session |= credentials(session["id"], session["livemode"], self._population.pages())
        elif self._stage == OUTCOME:
            session["redaction"] = None
        happened = self._population.happened(i, self._stage)
        assert happened  # noqa: S101  # found or matched before
        return event(f"evt_1{session['id'][4:]}{self._stage}", happened, self.key(i)[0], session)


class PopulationReports:
    """
    A stream of the reports about a population, oldest first.

    :param population: the sessions
    """

    def __init__(self, population: Population) -> None:
        self._population = population

    def __len__(self) -> int:
        return len(self._population)

    def key(self, i: int) -> tuple[int, ...]:
        """Return the place of a report in the order of all reports."""
        _, *rest = self._population.key(i)
        return self._population.moment(i, OUTCOME), *rest

    def find(self, report_id: str) -> int | None:
        """Return the number of the session that a report's id contains."""
        i = self._population.find(report_id.replace("vr_", "vs_", 1)) if report_id.startswith("vr_") else None
        return None if i is None or self._population.generated(i)["last_verification_report"] is None else i

    def candidates(self, wanted: dict[str, Any], low: int, high: int) -> Sequence[int]:
        """Return the numbers of all sessions in a range that can match: few, if a person or a session is named."""
        if "verification_session" in wanted:
            numbers = map(self._population.find, wanted["verification_session"])
            return sorted(i for i in numbers if i is not None and low <= i < high)
        return self._population.candidates(wanted, low, high)

    def match(self, i: int, wanted: dict[str, Any]) -> Json | None:
        """Return the report about session `i`, if there is one and it is wanted."""
        if self._population.generated(i)["last_verification_report"] is None:
            return None
        report = self.item(i)
        return report if all(report.get(name) in values for name, values in wanted.items()) else None

    def item(self, i: int) -> Json:
        """Return the report about session `i`."""
        return verification_report(self._population.generated(i), self._population.moment(i, OUTCOME))


def events(population: Population) -> Iterator[PopulationEvents]:
    """
    Yield the streams of all events of a population.

    :param population: the sessions
    """
    return (PopulationEvents(population, stage) for stage in range(len(STAGES)))
