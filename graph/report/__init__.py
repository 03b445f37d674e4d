"""Reports of a study: terminal tables, plots and one HTML page."""
