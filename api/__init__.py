"""REST API and console. Empty room: it comes with its own issue."""
