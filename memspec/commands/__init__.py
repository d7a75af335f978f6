"""The commands of the command line: a module for each, or for those that are alike, with a function ``add``."""
