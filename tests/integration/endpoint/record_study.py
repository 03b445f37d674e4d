"""Record the small study of the tests again: `python -m tests.integration.endpoint.record_study`."""

import os
import tempfile
from pathlib import Path

from graph.study import run_study
from nodes.llm.recording import use_record
from tests.integration.endpoint.test_recording import RECORDED, SMALL
from tests.integration.study.test_study_endpoint import silent
from tests.scripted import by_rules, serving


def main() -> None:
    """Record the replies of the model `rules` behind a scripted endpoint."""
    RECORDED.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder, serving(by_rules) as endpoint:
        os.environ.update(BILLP_HOME=folder, OPENAI_BASE_URL=endpoint.url)
        use_record(RECORDED, None, "")
        run_study(SMALL, "recorded", concurrency=1, processes=1, progress=silent)
    Path(f"{RECORDED}.lock").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
