"""The lab's fixtures. Run: /usr/bin/python3 -m pytest test/netns (as root, after the build)."""

import os
import pathlib
import sys
import tempfile

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "v1client")]

from certificates import Certificates  # noqa: E402
from lab import Lab  # noqa: E402
from plain import Place  # noqa: E402
from programs import EXECUTABLE  # noqa: E402


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="network namespaces need root: run this as root"))


def pytest_sessionstart():
    if not EXECUTABLE.exists():
        pytest.exit(f"{EXECUTABLE} does not exist: build first, or name another in PENSTOCK", returncode=1)


@pytest.fixture(scope="session")
def certificates():
    with tempfile.TemporaryDirectory(prefix="penstock-certificates-") as directory:
        path = pathlib.Path(directory)
        path.chmod(0o755)
        yield Certificates(path)


@pytest.fixture
def lab(request):
    """An empty lab; after a failure its logs are printed and its files kept."""
    lab = Lab()
    try:
        yield lab
    finally:
        lab.close()
        outcome = getattr(request.node, "outcome_of_call", None)
        if outcome is not None and outcome.failed:
            for process in lab.processes:
                print(f"\n--- {process.log_path}\n{process.tail(60)}")
        else:
            lab.remove_files()


@pytest.fixture
def place(lab, certificates):
    return Place(lab, certificates)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if call.when == "call":
        item.outcome_of_call = report
