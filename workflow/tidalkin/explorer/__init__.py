"""The explorer: search, judge, rank and map a run in the browser."""
