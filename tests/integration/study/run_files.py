"""Files of a finished run, without its provenance: the same bytes for the same settings."""

import re
from pathlib import Path

# Dates, command and machine, which differ from run to run.
PROVENANCE = "run.json"
PAGE = "report.html"
FOOT = re.compile(rb"<footer.*?</footer>", re.DOTALL)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a run by name, without run.json, and with the page without the foot that is made of it."""
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert files.pop(PROVENANCE) and len(FOOT.findall(files[PAGE])) == 1
    return files | {PAGE: FOOT.sub(b"", files[PAGE])}
