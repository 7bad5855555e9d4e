"""``stripe_accounts``: which accounts an export reads, and what its result says of them."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_stripe_identity._export.destinations import is_templated
from airflow_provider_stripe_identity._stripe_api.accounts import Accounts
from airflow_provider_stripe_identity._stripe_api.errors import in_one_line

if TYPE_CHECKING:
    from airflow_provider_stripe_identity.hooks import StripeIdentityHook

log = logging.getLogger(__name__)

#: Ids of accounts, or all that are connected when the task runs.
StripeAccounts = Sequence[str] | Literal["connected"]
#: So many skipped accounts are named in a result, which stays small.
NAMED = 10


def check_stripe_accounts(given: StripeAccounts | None) -> None:
    """
    Refuse what cannot be meant, as far as it can be seen before templates and results of other tasks are there.

    :raises ValueError: naming the argument
    """
    if isinstance(given, str):
        if given != "connected" and not is_templated(given):
            Accounts(given)
    elif isinstance(given, Sequence) and not any(
        isinstance(account, str) and is_templated(account) for account in given
    ):
        Accounts(given)


def accounts_to_read(
    hook: StripeIdentityHook, given: StripeAccounts | Iterable[str], *, skip_unreadable: bool
) -> Accounts:
    """
    Return the accounts that an export reads.

    :param hook: of the platform, which is asked for ``"connected"``
    :param given: also text that a template has made of a list
    :raises ValueError: naming the argument
    """
    if given == "connected":
        given = hook.list_connected_accounts()
        if not given:
            raise ValueError("stripe_accounts: no account is connected to the account of this key")
    elif isinstance(given, str):
        with suppress(ValueError, SyntaxError, MemoryError, RecursionError):  # refused as it is
            given = ast.literal_eval(given.strip())  # a list as JSON or Python writes it
    accounts = Accounts(given, skip_unreadable=skip_unreadable)
    log.info("Reading %d accounts", len(accounts.ids))
    return accounts


def result_of_accounts(accounts: Accounts) -> dict[str, Any]:
    """Return what the result says: figures, and the first of those that were skipped."""
    skipped = [account for account in accounts.ids if account in accounts.unreadable]
    return {
        "accounts": len(accounts.ids),
        "accounts_with_rows": len(accounts.with_objects),
        "accounts_skipped": len(skipped),
        "skipped": skipped[:NAMED],
    }


def warn_of_skipped(accounts: Accounts) -> None:
    """Name all accounts that were skipped, and why the first of them was."""
    if skipped := [account for account in accounts.ids if account in accounts.unreadable]:
        log.warning(
            "Skipped %d of %d accounts, which cannot be read: %s. The first: %s",
            len(skipped),
            len(accounts.ids),
            ", ".join(skipped),
            in_one_line(accounts.unreadable[skipped[0]]),
        )
