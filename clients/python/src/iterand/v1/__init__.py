"""Messages of proto/iterand/v1, generated when the package is installed."""
