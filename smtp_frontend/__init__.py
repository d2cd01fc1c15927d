"""The SMTP front end: a streaming proxy that asks the engine at every stage of a session."""
