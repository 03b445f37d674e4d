"""Recall of an embedding on titles of 20 scripts: `python -m tests.benchmarks.scripts`.

For each title, the nearest of all 300 labels is searched by the title alone. The embedding is that of
`BILLP_EMBEDDING`, or the bundled one.
"""

from pathlib import Path

import numpy as np

from memory.embeddings import shared_embeddings
from memory.search.vectors import unit

SCRIPTS = {
    script: [title.strip() for title in titles.split("|")]
    for script, titles in (
        line.split(": ", 1)
        for line in (Path(__file__).parents[1] / "titles_of_scripts.txt").read_text(encoding="utf-8").splitlines()
    )
}
"""Titles of films by the name of their script."""


def main() -> None:
    """Print the share of titles whose nearest label is their own, by script."""
    embeddings = shared_embeddings()
    titles = [title for group in SCRIPTS.values() for title in group]
    labels = unit(embeddings.embed_documents([f"{title} (Drama)" for title in titles]))
    queries = unit(np.asarray([embeddings.embed_query(title) for title in titles], dtype=np.float32))
    nearest = (queries @ labels.T).argmax(axis=1)
    hit = nearest == np.arange(len(titles))
    start = 0
    for script, group in SCRIPTS.items():
        print(f"{script:12} {hit[start : start + len(group)].mean():4.0%}")
        start += len(group)
    print(f"{'all':12} {hit.mean():4.0%}")


if __name__ == "__main__":
    main()
