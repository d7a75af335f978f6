"""The scorecard: record (JSON), score (0..1), render (terminal), pages (HTML, Markdown), panels and plots, compare."""
