"""Every public class and function says in its signature which arguments it takes, and documents each of them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest

import airflow_provider_stripe_identity as package


def public_callables() -> Iterator[tuple[str, Any]]:
    """What users import, and the public methods of it that are ours."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        # What the emulator is made of is no door; an exception is caught and not made.
        if "._" in found.name or ".testing." in found.name or found.name.endswith(".exceptions"):
            continue
        module = importlib.import_module(found.name)
        own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == found.name]
        names = getattr(module, "__all__", own)
        for name in names:
            value = getattr(module, name)
            if name.startswith("_") or not getattr(value, "__module__", "").startswith(package.__name__):
                continue
            if inspect.isfunction(value):
                yield f"{found.name}.{name}", value
            elif inspect.isclass(value) and not issubclass(value, tuple):
                yield f"{found.name}.{name}", value
                for method_name, method in vars(value).items():
                    function = getattr(method, "__func__", method)
                    if not method_name.startswith("_") and inspect.isfunction(function):
                        yield f"{found.name}.{name}.{method_name}", function


#: What Airflow hands to the methods that it calls, and users do not.
OF_AIRFLOW = {"args", "context", "event", "kwargs", "next_kwargs", "next_method", "operator", "shared_stream"}
OF_AIRFLOW |= {"task_instance", "ti_key"}
PUBLIC = dict(public_callables())


@pytest.mark.parametrize("name", PUBLIC)
def test_every_argument_is_in_the_signature_and_in_the_docstring(name):
    value = PUBLIC[name]
    documentation = inspect.getdoc(value) or ""
    signature = inspect.signature(value.__init__ if inspect.isclass(value) else value)
    parameters = {key: one for key, one in signature.parameters.items() if key not in ("self", "cls")}
    documented = set(re.findall(r":param (?:\w+ )?(\w+):", documentation))
    named = {key for key, one in parameters.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
    assert documentation
    assert documented <= set(parameters)
    assert named - OF_AIRFLOW <= documented
