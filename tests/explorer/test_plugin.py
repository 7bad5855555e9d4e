"""The plugin: off unless switched on, and next to nothing for the processes that are no api-server."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from airflow_provider_stripe_identity._explorer.plugin import StripeIdentityExplorerPlugin


@pytest.fixture
def loaded(monkeypatch):
    """Return a function that loads the plugin as Airflow does."""

    def load(enabled: str | None) -> type[StripeIdentityExplorerPlugin]:
        name = "AIRFLOW__STRIPE_IDENTITY__EXPLORER_ENABLED"
        monkeypatch.delenv(name, raising=False)
        if enabled:
            monkeypatch.setenv(name, enabled)

        class Fresh(StripeIdentityExplorerPlugin):
            pass

        Fresh.on_load()
        return Fresh

    return load


def test_airflow_finds_it():
    (entry_point,) = entry_points(group="airflow.plugins", name="stripe_identity_explorer")
    assert entry_point.load() is StripeIdentityExplorerPlugin


@pytest.mark.parametrize("enabled", [None, "False"])
def test_it_is_off_unless_switched_on(loaded, enabled):
    plugin = loaded(enabled)
    assert plugin.fastapi_apps == plugin.external_views == []


def test_its_address_is_relative_because_airflow_may_live_below_a_path(loaded):
    plugin = loaded("True")
    (app,), (view,) = plugin.fastapi_apps, plugin.external_views
    assert view["href"] == app["url_prefix"].strip("/") + "/"
    assert (view["category"], view["destination"]) == ("browse", "nav")


def test_loading_it_imports_neither_fastapi_nor_http_nor_the_gateway():
    code = (
        "import sys, airflow.plugins_manager\nbefore = set(sys.modules)\n"
        "from airflow_provider_stripe_identity._explorer.plugin import StripeIdentityExplorerPlugin as plugin\n"
        "plugin.on_load()\nassert plugin.fastapi_apps\n"
        "new = set(sys.modules) - before\n"
        "sys.exit(str(new) if new & {'fastapi', 'requests', 'starlette', 'msgspec'} else 0)"
    )
    env = {"AIRFLOW__STRIPE_IDENTITY__EXPLORER_ENABLED": "True", "PATH": ""}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
