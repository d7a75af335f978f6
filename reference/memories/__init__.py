"""The reference memories, one module a family."""
