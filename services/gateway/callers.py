"""Who asks: the tenant and what it may use, as its key says."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.gateway.asking import DEFAULT_TENANT, Ask, Priority
from services.gateway.feedback import Feedback
from thermesh.errors import PermissionDenied
from thermesh.keys import UNLIMITED, Allowance


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `tenant` empty: no key was wanted, and the request itself names one.

    `is_admin`: whether the operator's routes are open.
    """

    tenant: str = ""
    priority: Priority | None = None
    allowance: Allowance = UNLIMITED
    key_id: str = ""
    is_admin: bool = False

    def check_admin(self) -> None:
        """Raise PermissionDenied where the operator's routes are closed."""
        if not self.is_admin:
            raise PermissionDenied(
                "the key has no admin right (`thermesh keys create --admin`)", reason="NOT_ADMIN"
            )

    def tenant_for(self, named: str, field: str = "context.tenant") -> str:
        """Return the tenant of a request that names `named`, empty where it names none.

        Raises PermissionDenied where the key belongs to another.
        """
        if not self.tenant:
            return named or DEFAULT_TENANT
        if named not in {"", DEFAULT_TENANT, self.tenant}:
            raise PermissionDenied(
                f"the key belongs to tenant {self.tenant}; leave the tenant out",
                field=field,
                reason="OTHER_TENANT",
            )
        return self.tenant

    def sign(self, ask: Ask) -> Ask:
        """Return `ask` in the caller's name; its own priority wins over the key's."""
        context = replace(
            ask.context,
            tenant=self.tenant_for(ask.context.tenant),
            priority=ask.context.priority or self.priority,
        )
        return replace(ask, context=context, allowance=self.allowance)

    def sign_feedback(self, feedback: Feedback) -> Feedback:
        """Return `feedback` in the caller's name."""
        return replace(feedback, tenant=self.tenant_for(feedback.tenant, "tenant"))
