"""What is published: it passes an index's checks, works where nothing else is installed, and can be tested."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.paths import ROOT

NAME = "airflow-provider-stripe-identity"
CONSTRAINTS = ROOT / "constraints" / "airflow-3.3.txt"


def run(*command: object, cwd: Path, **env: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AIRFLOW", "PYTHON"))}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env={**environment, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def unpacked(built, tmp_path_factory):
    """The sdist's files."""
    folder = tmp_path_factory.mktemp("sdist")
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return source


def test_an_index_would_take_it(built):
    output = run(sys.executable, "-m", "twine", "check", "--strict", *built.iterdir(), cwd=built)
    assert output.count("PASSED") == 2


@pytest.mark.parametrize("url", ["", "https://example.com/team/provider"])
def test_what_an_index_shows_has_no_link_that_is_broken_there(tmp_path, url):
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT]
    run(*build, cwd=tmp_path, PROJECT_URL=url)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = archive.read(name).decode()
    links = re.findall(r"(!?)\[[^\]]*\]\(([^)\s]+)\)", metadata)
    assert links
    assert all(target.startswith("https://") for _, target in links)
    version = wheel.name.split("-")[1]
    assert (("", f"{url}/blob/v{version}/docs/quickstart.md") in links) == bool(url)
    assert (("!", f"{url}/raw/v{version}/docs/demo.png") in links) == bool(url)
    assert (f"Project-URL: Documentation, {url}/blob/v{version}/docs/index.md" in metadata) == bool(url)
    assert "[Quick start]" in metadata if url else "Quick start" in metadata


@pytest.mark.timeout(300)
def test_the_wheel_works_where_nothing_else_is_installed(built, unpacked, tmp_path):
    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    (wheel,) = built.glob("*.whl")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS, wheel, cwd=tmp_path)
    home = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "COLUMNS": "200"}
    shown = run(python, "-m", "airflow", "providers", "get", NAME, cwd=tmp_path, **home)
    version = wheel.name.split("-")[1]
    assert NAME in shown
    assert version in shown
    examples = sorted((unpacked / "dags_examples").glob("stripe_identity_*.py"))
    assert examples
    for example in examples:
        run(python, "-W", "error:::__main__", example, cwd=tmp_path, **home)


@pytest.mark.timeout(580)
def test_one_set_of_constraints_fits_all_extras(built, tmp_path):
    """Each by itself resolves too: it asks for less."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        extras = re.findall(r"^Provides-Extra: (.+)$", archive.read(metadata).decode(), re.MULTILINE)
    assert {"amazon", "google", "microsoft"} < set(extras)
    everything = f"{wheel}[{','.join(extras)}]"
    pip = (sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary=:all:")
    output = run(*pip, "--constraint", CONSTRAINTS, everything, cwd=tmp_path)
    assert "Would install" in output


def test_the_source_distribution_is_what_the_tests_here_have(unpacked):
    """Package, tests, and all that they read: what passes here passes there."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    of_the_repository = (".ci/", ".git", ".pre-commit", ".proselint")
    here = {name for name in listed.rstrip("\0").split("\0") if not name.startswith(of_the_repository)}
    added_by_the_build = {"PKG-INFO", ".gitignore"}
    there = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if path.is_file()} - added_by_the_build
    assert there == here
    assert [name for name in here if (unpacked / name).read_bytes() != (ROOT / name).read_bytes()] == []


def test_its_tests_find_the_package_and_each_other_there(unpacked):
    output = run(sys.executable, "-m", "pytest", "-q", "--collect-only", cwd=unpacked, PYTHONPATH=str(unpacked))
    assert re.search(r"^\d+ tests collected", output, re.MULTILINE)
    own = "tests/test_provider.py"
    assert " passed" in run(sys.executable, "-m", "pytest", "-q", own, cwd=unpacked, PYTHONPATH=str(unpacked))
