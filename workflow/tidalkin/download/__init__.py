"""Download machinery shared by the sources: requests, retries, journal, tar and ledger."""
