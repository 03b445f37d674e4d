"""Import diagram of the packages: `python -m tests.architecture` prints the diagram of docs/architecture.md."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("graph", "nodes", "memory", "sim")


def packages() -> dict[str, list[Path]]:
    """Return the files of each package, without those of packages inside it."""
    found: dict[str, list[Path]] = {}
    for floor in FLOORS:
        for file in sorted((ROOT / floor).rglob("*.py")):
            found.setdefault(".".join(file.parent.relative_to(ROOT).parts), []).append(file)
    return found


def imported(file: Path, known: set[str]) -> set[str]:
    """Return the packages from which a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {package for name in names if (package := _package_of(name, known))}


def _package_of(name: str, known: set[str]) -> str:
    parts = name.split(".")
    return next((own for end in range(len(parts), 0, -1) if (own := ".".join(parts[:end])) in known), "")


def diagram() -> str:
    """Return the packages by floor, with an arrow to each imported package, as Mermaid source."""
    files = packages()
    lines = ["graph TD"]
    for floor in FLOORS:
        lines.append(f'  subgraph {floor}_floor["{floor}/"]')
        lines += [f'    {_id(name)}["{name}"]' for name in files if name.split(".")[0] == floor]
        lines.append("  end")
    for name, own in files.items():
        others = set().union(*(imported(file, {*files}) for file in own)) - {name}
        lines += [f"  {_id(name)} --> {_id(other)}" for other in sorted(others)]
    return "\n".join(lines)


def _id(name: str) -> str:
    # A prefix is needed: `graph` is a keyword of Mermaid.
    return f"the_{name.replace('.', '_')}"


if __name__ == "__main__":
    print(diagram())
