"""Tests of `api` without a server."""
