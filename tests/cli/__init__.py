"""The command as it is typed: real processes against real servers."""
