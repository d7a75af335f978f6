"""memspec.training: a loop that trains a sequence model on a task, with progress, checkpoints and a reason where it stops."""
