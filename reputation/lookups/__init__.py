"""Facts from outside the store: the DNS, and whose network an address is in."""
