"""The API as a process of its own, asked over HTTP."""
