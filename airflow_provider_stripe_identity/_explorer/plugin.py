"""The plugin that brings the explorer to Airflow's UI. Every Airflow process loads it, so it does next to nothing."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from concurrent.futures import Future

URL_PREFIX = "/stripe-identity"


@cache
def _app() -> Future[Any]:
    """Make the application in a thread: its imports take a while, and the api-server answers others meanwhile."""
    from concurrent.futures import ThreadPoolExecutor

    def make() -> Any:
        from airflow_provider_stripe_identity._explorer.app import make_app

        return make_app()

    return ThreadPoolExecutor(1, "stripe-identity-explorer").submit(make)


async def explorer(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request; the application is made for the first one, in the api-server alone."""
    from asyncio import wrap_future

    await (await wrap_future(_app()))(scope, receive, send)


class StripeIdentityExplorerPlugin(AirflowPlugin):
    """The explorer, once ``[stripe_identity] explorer_enabled`` is set."""

    name = "stripe_identity_explorer"
    fastapi_apps: list[Any] = []  # noqa: RUF012 - as Airflow declares it
    external_views: list[Any] = []  # noqa: RUF012

    @classmethod
    def on_load(cls, *args: Any, **kwargs: Any) -> None:
        """Register the application and its entry in the navigation."""
        if not conf.getboolean("stripe_identity", "explorer_enabled", fallback=False):
            return
        cls.fastapi_apps = [{"app": explorer, "url_prefix": URL_PREFIX, "name": "Stripe Identity"}]
        cls.external_views = [
            {
                "name": "Stripe Identity",
                # Relative: Airflow may live below a path.
                "href": f"{URL_PREFIX.removeprefix('/')}/",
                "destination": "nav",
                "category": "browse",
                "url_route": "stripe-identity",
            }
        ]
