"""Counter stores: the in-memory reference, Redis and Valkey, and the embedded Valkey."""
