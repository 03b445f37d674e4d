"""Environment variables of the memory: every place that lists one of them lists all."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[4]


def test_each_variable_of_chroma_is_documented_and_passed_on_wherever_its_siblings_are() -> None:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "memory").rglob("*.py"))
    read = {name for text in sources for name in re.findall(r'environ\.get\("(BILLP_CHROMA_[A-Z]+)"', text)}
    assert {"BILLP_CHROMA_URL", "BILLP_CHROMA_SECONDS"} <= read
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in (".env.example", "docs/deploy.md")}
    for name in sorted(read):
        assert name in compose["services"]["server"]["environment"], name
        assert re.search(rf"^# {name}=", texts[".env.example"], re.MULTILINE), name
        assert re.search(rf"`{name}`", texts["docs/deploy.md"]), name
        # The machine that runs the tests may have it set.
        assert f'"{name}"' in (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"), name
    assert "`BILLP_CHROMA_SECONDS`" in (ROOT / "docs" / "memory.md").read_text(encoding="utf-8")
