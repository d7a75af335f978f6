"""The scorecard: record (JSON), score (0..1), render (terminal, Markdown, HTML, plots), compare."""
