"""A run of the suites, and runs of many."""
