"""Nothing is configured here: memspec's pytest plugin is an entry point of the installed package."""
