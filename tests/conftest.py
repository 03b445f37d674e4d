"""Fixtures that all tests share."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.processes import end_with_parent
from tests.servers import GUARDED, ChromaServer, Server, serving, serving_chroma

# Nothing leaves the machine, not even from processes that the tests start.
os.environ.update(LANGGRAPH_CLI_NO_ANALYTICS="1", LANGSMITH_TRACING="false", ANONYMIZED_TELEMETRY="False")
for name in (
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "BILLP_HOME",
    "BILLP_EMBEDDING",
    "BILLP_CHROMA_URL",
    "BILLP_CHROMA_HEADERS",
    "BILLP_CHROMA_CA",
    "BILLP_CHROMA_SECONDS",
    "LANGSMITH_API_KEY",
):
    os.environ.pop(name, None)


# No test is about the time of an example: on a busy machine one may take long, and drawing it too.
settings.register_profile("billp", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("billp")

# Inherited tests that take long. Contracts are for other packages too, which do not know the mark `slow`.
SLOW_CONTRACTS = {
    "test_a_state_that_names_another_account_reaches_nothing_of_its_own",
    "test_a_text_has_the_same_vector_in_whatever_company",
    "test_many_threads_may_ask_at_once",
    "test_the_longest_visit_holds_up_no_other",
}


def pytest_configure(config: pytest.Config) -> None:
    """Let the processes of pytest-xdist end with the one that started them."""
    if hasattr(config, "workerinput"):
        end_with_parent()


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of test processes: one more than cores, since some tests wait for servers; at most four."""
    return min((os.cpu_count() or 1) + 1, 4)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the inherited tests that take long."""
    for item in items:
        if isinstance(item, pytest.Function) and item.originalname in SLOW_CONTRACTS:
            item.add_marker("slow")


@pytest.fixture(autouse=True)
def no_variants_of_files() -> Iterator[None]:
    """Forget the variants of files that a test has loaded."""
    yield
    if "graph.variant_files" in sys.modules:
        sys.modules["graph.variant_files"].unload_variants()


@pytest.fixture(scope="session")
def built_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home folder with the world `tiny`, built and embedded; copy it, do not write into it."""
    from nodes.tools.open_world import close_worlds, open_world_now

    base = tmp_path_factory.mktemp("built")
    before = os.environ.get("BILLP_HOME")
    os.environ["BILLP_HOME"] = str(base)
    try:
        open_world_now("tiny")
        close_worlds()
    finally:
        if before is None:
            del os.environ["BILLP_HOME"]
        else:
            os.environ["BILLP_HOME"] = before
    return base


@pytest.fixture
def home(built_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Home folder of the test's own, with the world `tiny`."""
    from nodes.tools.open_world import close_worlds

    base = tmp_path / "home"
    shutil.copytree(built_home, base)
    monkeypatch.setenv("BILLP_HOME", str(base))
    yield base
    close_worlds()


@pytest.fixture(scope="session")
def guarded(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Server with authentication, shared by the tests: ann may share memories, bob may not."""
    with serving(tmp_path_factory.mktemp("guarded"), built_home, configuration=GUARDED) as server:
        yield server


@pytest.fixture(scope="session")
def chroma_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaServer]:
    """Chroma server, shared by the tests; a test that needs an empty one empties it."""
    with serving_chroma(tmp_path_factory.mktemp("chroma")) as server:
        yield server


@pytest.fixture
def chroma_url(chroma_server: ChromaServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return chroma_server.url
