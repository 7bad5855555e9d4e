"""The name of a run's object: the window that it may name, and what a name must not promise."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from difflib import get_close_matches

from airflow_provider_stripe_identity._export.windows import Window

_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_IN_BRACES = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")
#: What :meth:`datetime.strftime` writes alike everywhere: no names of days and months, they depend on the locale.
_DIRECTIVES = frozenset("YymdHMSjGVu%")
#: Without a format: as ISO 8601 writes it without separators.
_WHOLE = "%Y%m%dT%H%M%SZ"
#: What a part of a time needs beside it, any of these, for a name that no later time has: a %V without its %G is
#: another week's at the turn of a year.
_NEEDS = {"m": "Yy", "d": "m", "j": "Yy", "V": "G", "u": "V", "H": "dju", "M": "H", "S": "M"}
#: Names of other formats and compressions: what is written is JSON lines, plain or with gzip.
_OTHER_FORMATS = frozenset(
    {
        "7z",
        "arrow",
        "avro",
        "br",
        "bson",
        "bz2",
        "csv",
        "deflate",
        "feather",
        "gzip",
        "lz4",
        "lzo",
        "orc",
        "parquet",
        "pq",
        "snappy",
        "sz",
        "tar",
        "tgz",
        "tsv",
        "xls",
        "xlsx",
        "xml",
        "xz",
        "yaml",
        "yml",
        "zip",
        "zst",
        "zstd",
    }
)


def check_destination(destination: str) -> None:
    """
    Refuse what no run could write to, as far as it can be seen before Jinja has rendered it.

    :raises ValueError: naming the placeholder or the suffix
    """
    if not isinstance(destination, str):  # known when the task runs, such as another task's result
        return
    if found := re.search(r"\{\{\s*(created_(?:gte|lt)\b[^{}]*?)\s*\}\}", destination):
        raise ValueError(
            f"destination: {{{{ {found[1]} }}}} is read by Jinja, which does not know it.\n"
            f"Write {{{found[1]}}}, with single braces; inside an f-string double ones become single."
        )
    name_of_window(_JINJA.sub("*", destination), Window(0, 1))


def is_templated(destination: str) -> bool:
    """Return whether Jinja has something to say in the name; of anything but text that is not known."""
    return not isinstance(destination, str) or bool(_JINJA.search(destination))


def names_its_window(destination: str) -> bool:
    """Return whether runs may have names of their own: by Jinja, or by a placeholder of the window."""
    return is_templated(destination) or bool(_IN_BRACES.search(destination))


def missing_part(destination: str) -> tuple[str, str] | None:
    """Return a directive and what it lacks, where the windows of other months or years have the same name."""
    forms = [form for _, form in _IN_BRACES.findall(destination)]
    if is_templated(destination) or not all(forms):  # without a format they are different to the second
        return None
    given = set(re.findall(r"%(.)", "".join(forms)))
    return next(((one, needed[0]) for one, needed in _NEEDS.items() if one in given and not given & {*needed}), None)


def name_of_window(destination: str, window: Window) -> str:
    """
    Return the URL with its ``{created_gte:…}`` and ``{created_lt:…}`` replaced by the times of a window, in UTC.

    In UTC, because in most other time zones two hours of a year have one name.

    :raises ValueError: naming the placeholder, or the suffix of a format that is not written
    """

    def time(found: re.Match[str]) -> str:
        name, form = found.groups()
        if name not in Window._fields:
            close = get_close_matches(name, Window._fields, n=1)
            meant = f"Did you mean {{{close[0]}}}? " if close else ""
            raise ValueError(
                f"destination: {found[0]} is not known.\n{meant}A name may hold {{created_gte:%Y-%m-%d}} and "
                "{created_lt:…}, the start and the end of the run's window."
            )
        directives = re.findall(r"%(.?)", form or "")
        if form == "" or (wrong := [one for one in directives if one not in _DIRECTIVES]):
            raise ValueError(
                f"destination: {found[0]} is not a valid time format{f', because of %{wrong[0]}' if form else ''}.\n"
                "Use %Y %m %d %H %M %S, such as {created_gte:%Y-%m-%d}."
            )
        return datetime.fromtimestamp(getattr(window, name), UTC).strftime(form or _WHOLE)

    named = _IN_BRACES.sub(time, destination)
    if "{" in named or "}" in named:
        raise ValueError(
            f"destination must not hold single braces: {destination!r}.\n"
            "They name the run's window, such as {created_gte:%Y-%m-%d}."
        )
    suffix = named.rpartition("/")[2].rpartition(".")[2].lower()
    if "." in named.rpartition("/")[2] and suffix in _OTHER_FORMATS:
        raise ValueError(
            f"destination: .{suffix} is not what is written.\n"
            "Objects are JSON lines: end the name with .jsonl, or with .jsonl.gz to compress it."
        )
    return named


def next_run_replaces(destination: str, window: Window) -> bool:
    """Return whether the next window of this length has the same name, so that its object replaces this one."""
    following = Window(window.created_lt, 2 * window.created_lt - window.created_gte)
    return name_of_window(destination, window) == name_of_window(destination, following)
