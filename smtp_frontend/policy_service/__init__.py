"""Postfix policy delegation: answers `check_policy_service`, and whoever else asks in its words."""

from smtp_frontend.policy_service.service import PolicyService

__all__ = ["PolicyService"]
