"""The HTTP API: forecasts at once, everything else as jobs."""
