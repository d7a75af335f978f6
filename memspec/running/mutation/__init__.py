"""Machine-made mutants of the reference memories: how they are written, told from the original, and run."""
