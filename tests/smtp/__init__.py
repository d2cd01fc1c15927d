"""The SMTP front end, against real sockets on loopback."""
