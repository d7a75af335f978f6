"""Names to plugs: loading, adapting, building, and populations of built memories."""
