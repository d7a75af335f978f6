"""Many memories under many settings and seeds, on one machine or a cluster; see docs/scale.md."""
