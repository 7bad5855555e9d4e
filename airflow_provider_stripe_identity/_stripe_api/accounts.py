"""Connected accounts: which ones a platform has, and what becomes of each when several are read in one listing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_stripe_identity._stripe_api.errors import StripeAPIError, StripeError, UnreadableAccountsError
from airflow_provider_stripe_identity._stripe_api.pages import converter
from airflow_provider_stripe_identity._stripe_api.parameters import MAX_PAGE_SIZE, page_query

if TYPE_CHECKING:
    from airflow_provider_stripe_identity._stripe_api.client import StripeIdentityClient

ACCOUNTS = "/v1/accounts"


class Accounts:
    """
    The accounts of one listing, in order, and what has become of each.

    :param ids: one that is named twice is read once
    :param skip_unreadable: leave out the accounts that the key cannot read, instead of failing
    :raises ValueError: for no id at all, or one that cannot be the id of an account
    """

    def __init__(self, ids: Iterable[str], *, skip_unreadable: bool = False) -> None:
        self.ids = tuple(dict.fromkeys(_checked(ids)))
        self.skip_unreadable = skip_unreadable
        #: Why an account cannot be read.
        self.unreadable: dict[str, StripeError] = {}
        #: Those of which something was yielded.
        self.with_objects: set[str] = set()

    def cannot_be_read(self, account: str, error: StripeError) -> None:
        """
        Note that an account cannot be read.

        :raises StripeAPIError: when it is to be left out, and a part of it was yielded before
        """
        self.unreadable.setdefault(account, error)
        if self.skip_unreadable and account in self.with_objects:
            raise StripeAPIError(
                "Reading accounts",
                f"account {account} withdrew its access while it was read",
                hint="Try again: it is then left out from the beginning",
                retryable=True,
            )

    def check(self) -> None:
        """
        End a listing.

        :raises UnreadableAccountsError: naming all accounts that cannot be read, unless they are to be left out; also
            when none could be read
        """
        if self.unreadable and (not self.skip_unreadable or len(self.unreadable) == len(self.ids)):
            in_order = {account: self.unreadable[account] for account in self.ids if account in self.unreadable}
            raise UnreadableAccountsError(in_order, of=len(self.ids))


def _checked(ids: Iterable[str]) -> list[str]:
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise ValueError(f"stripe_accounts must be a list of account ids (acct_…), or 'connected', not {ids!r}")
    found = list(ids)
    if not found:
        raise ValueError("stripe_accounts is empty: there is no account to read")
    for account in found:
        if not isinstance(account, str) or not re.fullmatch(r"acct_[A-Za-z0-9_]{1,250}", account):
            raise ValueError(f"stripe_accounts must be a list of account ids (acct_…), and holds {account!r}")
    return found


class _Account(msgspec.Struct, tag_field="object", tag="account"):
    id: str


class _AccountsPage(msgspec.Struct, tag_field="object", tag="list"):
    data: list[_Account]
    has_more: bool


_to_accounts = converter(_AccountsPage)


def list_connected_accounts(client: StripeIdentityClient) -> list[str]:
    """
    Return the ids of all accounts that are connected to the key's account, the newest first.

    :raises StripeError: also for a page that does not move on
    """
    found: dict[str, None] = {}
    cursor: str | None = None
    while True:

        def malformed(page: dict[str, Any], seen: dict[str, None] = found) -> str | None:
            try:
                accounts = _to_accounts(page)
            except msgspec.ValidationError as error:
                return f"is not a list of Stripe's ({error})"
            # An account that is connected meanwhile moves the others by one place, never a whole page.
            if accounts.has_more and all(account.id in seen for account in accounts.data):
                return "is a page on which the cursor does not move"
            return None

        query = page_query(limit=MAX_PAGE_SIZE, starting_after=cursor)
        page = client.get(ACCOUNTS, query, malformed=malformed, patient=cursor is not None)
        found.update((account["id"], None) for account in page["data"])
        if not page["has_more"]:
            return list(found)
        cursor = page["data"][-1]["id"]
