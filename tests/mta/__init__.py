"""Real mail servers on loopback, and what their logs tell `reputon replay`."""
