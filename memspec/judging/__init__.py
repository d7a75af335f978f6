"""From numbers to verdicts: statistics, bounds, the judge."""
