"""What runs in which order: the graphs, the study over many visits, the command line."""
