"""What the tests with mail servers share."""

from tests.mta.postfix_for_tests import server

__all__ = ["server"]
