"""Files of a finished run, without its provenance: the same bytes for the same settings."""

import re
from pathlib import Path

# Dates, command and machine, which differ from run to run.
PROVENANCE = "run.json"
PAGE, RESULTS = "report.html", "results.json"
# The same in the other files: a list at the head of the page, and the last field of the results.
ON_PAGE = re.compile(rb'<dl id="provenance".*?</dl>', re.DOTALL)
IN_RESULTS = re.compile(rb',\n  "provenance": \{.*\Z', re.DOTALL)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a run by name, without run.json and without the provenance in its page and results."""
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert files.pop(PROVENANCE)
    page, pages = ON_PAGE.subn(b"", files[PAGE])
    assert pages == 1
    return files | {PAGE: page, RESULTS: same_results(files[RESULTS])}


def same_results(content: bytes) -> bytes:
    """Return the content of results.json without its provenance."""
    same, found = IN_RESULTS.subn(b"", content)
    assert found == 1
    return same
