"""Renewal of the page's libraries from npm: `python -m tests.web.vendored` writes graph/web/static/vendor."""

import base64
import hashlib
import json
import re
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.processes import run

VENDOR = Path(__file__).resolve().parents[2] / "graph" / "web" / "static" / "vendor"
MANIFEST = VENDOR / "vendor.json"
# Files to take, and the names that they get.
LIBRARIES = {
    "preact": {"dist/preact.mjs": "preact.mjs", "hooks/dist/hooks.mjs": "hooks.mjs", "LICENSE": "preact.LICENSE"},
    "htm": {"dist/htm.mjs": "htm.mjs", "LICENSE": "htm.LICENSE"},
}


def adapted(text: str) -> str:
    """Return a module that browsers load as it is: packages by file name, without a reference to a source map."""
    named = re.sub(r'(from\s*)"(preact|htm)"', r'\1"./\2.mjs"', text)
    return re.sub(r"^//# sourceMappingURL=.*\n?", "", named, flags=re.MULTILINE)


def checksum(content: bytes) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}"


def packed(name: str, folder: Path) -> dict[str, Any]:
    """Fetch the newest version of a package, and return npm's description of it."""
    done = run(["npm", "pack", name, "--json"], cwd=folder, check=True)
    (described,) = json.loads(done.stdout)
    return dict(described)


def taken(name: str, folder: Path) -> dict[str, Any]:
    """Write the files of a package, and return its entry of the manifest."""
    described = packed(name, folder)
    archive = folder / described["filename"]
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if described["integrity"] != f"sha512-{digest}":
        sys.exit(f"{archive.name} differs from its checksum: fetch it again")
    files = {}
    with tarfile.open(archive) as opened:

        def read(path: str) -> str:
            found = opened.extractfile(f"package/{path}")
            assert found is not None, path
            return found.read().decode()

        package = json.loads(read("package.json"))
        for source, target in LIBRARIES[name].items():
            text = adapted(read(source)) if target.endswith(".mjs") else read(source)
            (VENDOR / target).write_text(text, encoding="utf-8")
            files[target] = checksum(text.encode())
    return {
        "version": package["version"],
        "license": package["license"],
        "integrity": described["integrity"],
        "files": files,
    }


def main() -> None:
    """Renew all libraries, and print their versions."""
    VENDOR.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        manifest = {name: taken(name, Path(folder)) for name in LIBRARIES}
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for name, entry in manifest.items():
        print(name, entry["version"], entry["license"])


if __name__ == "__main__":
    main()
