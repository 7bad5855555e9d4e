"""Airflow finds the provider, and the wheel holds the package and nothing else."""

from __future__ import annotations

import importlib.metadata
import inspect
import json
import pkgutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import airflow
import jsonschema
import pytest
from airflow.sdk import BaseOperator, BaseSensorOperator
from airflow.triggers.base import BaseTrigger
from packaging.version import Version
from support.airflow_versions import AIRFLOW
from support.paths import ROOT

import airflow_provider_stripe_identity as package
from airflow_provider_stripe_identity._airflow.version_compat import BaseHook
from airflow_provider_stripe_identity.hooks import StripeIdentityHook

INFO = package.get_provider_info()
BASES = {"hooks": BaseHook, "operators": BaseOperator, "sensors": BaseSensorOperator, "triggers": BaseTrigger}


def run_airflow(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", "airflow", *command], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_provider_info_fits_airflows_schema():
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)


def test_the_package_name_is_the_distributions():
    (entry_point,) = importlib.metadata.entry_points(group="apache_airflow_provider", module=package.__name__)
    assert INFO["package-name"] == entry_point.dist.name
    assert entry_point.load()() == INFO


def test_every_dotted_path_can_be_imported():
    paths = [text for text in texts(INFO) if text.startswith(f"{package.__name__}.")]
    for path in paths:
        pkgutil.resolve_name(path)
    for connection_type in INFO["connection-types"]:
        assert pkgutil.resolve_name(connection_type["hook-class-name"]).conn_type == connection_type["connection-type"]
    for kind, base in BASES.items():
        listed = {module for entry in INFO[kind] for module in entry["python-modules"]}
        assert listed == {name for name in modules() if has_public_subclass(import_module(name), base)}, kind


def texts(value: object) -> Iterator[str]:
    """Every text in nested lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)


def has_public_subclass(module: ModuleType, base: type) -> bool:
    """Whether a class of the kind is defined in the module itself."""
    return any(
        issubclass(member, base)
        and not (base is BaseOperator and issubclass(member, BaseSensorOperator))
        and member.__module__ == module.__name__
        and not name.startswith("_")
        for name, member in inspect.getmembers(module, inspect.isclass)
    )


def test_airflow_lists_the_provider():
    assert INFO["package-name"] in run_airflow("providers", "list")
    assert INFO["package-name"] in run_airflow("providers", "get", INFO["package-name"])
    assert "stripe_conn_id" in run_airflow("providers", "hooks")


FORM = """
import sys
if "without" in sys.argv:
    sys.modules["wtforms"] = None
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
(form,) = (form for form in HookMetaService.hook_meta_data() if form.connection_type == "stripe_identity")
print(form.model_dump_json())
"""


@pytest.mark.parametrize("wtforms", ["with", "without"])
def test_airflow_shows_the_form_that_is_declared(wtforms):
    """From the metadata, or before Airflow 3.3 from the hook's methods."""
    done = subprocess.run([sys.executable, "-c", FORM, wtforms], capture_output=True, text=True, check=True)
    form = json.loads(done.stdout.splitlines()[-1])
    if wtforms == "without" and Version("3.1") > AIRFLOW:  # as the table of versions says
        assert (form["standard_fields"], form["extra_fields"]) == (None, None)
        return
    declared = INFO["connection-types"][0]
    behaviour = declared["ui-field-behaviour"]
    shown = form["standard_fields"]
    assert {name for name, field in shown.items() if field and field["hidden"]} == {"login", "url_schema"}
    assert {name: shown[name]["title"] for name in behaviour["relabeling"]} == behaviour["relabeling"]
    assert {name: shown[name]["placeholder"] for name in behaviour["placeholders"]} == behaviour["placeholders"]
    assert {name: (field["schema"]["title"], field["description"]) for name, field in form["extra_fields"].items()} == {
        name: (field["label"], field["description"]) for name, field in declared["conn-fields"].items()
    }


def test_the_hooks_methods_describe_the_same_form():
    behaviour = StripeIdentityHook.get_ui_field_behaviour()
    declared = INFO["connection-types"][0]
    assert behaviour["hidden_fields"] == declared["ui-field-behaviour"]["hidden-fields"]
    assert behaviour["relabeling"] == declared["ui-field-behaviour"]["relabeling"]
    assert {name: field.args[0] for name, field in StripeIdentityHook.get_connection_form_widgets().items()} == {
        name: field["label"] for name, field in declared["conn-fields"].items()
    }


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    tracked = {str(path.relative_to(ROOT)) for path in (ROOT / package.__name__).rglob("*") if path.is_file()}
    assert set(names) == {name for name in tracked if "__pycache__" not in name}
    assert f"{package.__name__}/py.typed" in names


def modules() -> list[str]:
    return [
        found.name
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not found.name.endswith("__main__")
    ]


@pytest.mark.parametrize("name", modules())
def test_everything_public_is_documented(name):
    module = import_module(name)
    assert module.__doc__
    for member_name, member in inspect.getmembers(module):
        if member_name.startswith("_") or getattr(member, "__module__", None) != name:
            continue
        if inspect.isclass(member) or inspect.isfunction(member):
            assert member.__doc__, f"{name}.{member_name}"


def test_stripe_api_does_not_know_airflow_nor_does_the_emulator():
    """Importing them must not import Airflow."""
    code = (
        "import sys, airflow_provider_stripe_identity._stripe_api.client, "
        "airflow_provider_stripe_identity._stripe_api.listing, airflow_provider_stripe_identity.testing\n"
        "sys.exit('airflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_dag_file_does_not_pay_for_http():
    """``requests`` alone would double what importing the operators costs."""
    code = "import sys, airflow_provider_stripe_identity.operators\nsys.exit('requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
