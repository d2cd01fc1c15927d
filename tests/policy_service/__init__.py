"""The policy service over real sockets, asked as a mail server asks."""
