"""Sessions: the signed cookie that says whose browser this is, and the form token bound to it.

The cookie carries a random nonce and, once somebody has signed in, the user's id and ``session_epoch``; raising the
epoch in the database ends all sessions of that user. Nothing is kept on the server, so any web process can read it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

from fastapi import Request, Response
from itsdangerous import BadSignature, URLSafeTimedSerializer

COOKIE = "querent_session"


@dataclass(frozen=True)
class Visit:
    """One browser's session; ``user_id`` is None until somebody signs in."""

    nonce: str
    user_id: int | None = None
    epoch: int = 0


class Visits:
    """Reads and writes the session cookie and derives form tokens.

    Args:
        key: the secret that signs.
        days: after how many days a session ends.
        secure: whether browsers may send the cookie over HTTPS only.
    """

    def __init__(self, key: str, days: int, secure: bool) -> None:
        self._serializer = URLSafeTimedSerializer(
            key, salt="querent.session", signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256}
        )
        self._token_key = hashlib.sha256(f"querent.form-token:{key}".encode()).digest()
        self._seconds = days * 86_400
        self._secure = secure

    def start(self, user_id: int | None = None, epoch: int = 0) -> Visit:
        """Return a new session; a new nonce at sign-in makes tokens and cookies from before worthless."""
        return Visit(secrets.token_urlsafe(18), user_id, epoch)

    def read(self, request: Request) -> Visit | None:
        """Return the request's session, or None when there is none, it is too old or not ours."""
        cookie = request.cookies.get(COOKIE)
        if not cookie:
            return None
        try:
            nonce, user_id, epoch = self._serializer.loads(cookie, max_age=self._seconds)
        except (BadSignature, ValueError, TypeError):
            return None
        return Visit(nonce, user_id, epoch)

    def write(self, response: Response, visit: Visit) -> None:
        """Put the session into the response's cookie."""
        response.set_cookie(
            COOKIE,
            self._serializer.dumps([visit.nonce, visit.user_id, visit.epoch]),
            max_age=self._seconds,
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="lax",
        )

    def forget(self, response: Response) -> None:
        """Take the cookie back."""
        response.delete_cookie(COOKIE, path="/", secure=self._secure, httponly=True, samesite="lax")

    def form_token(self, visit: Visit) -> str:
        """Return the token that every form of this session carries."""
        return hmac.new(self._token_key, visit.nonce.encode(), hashlib.sha256).hexdigest()

    def is_own_token(self, visit: Visit | None, token: str | None) -> bool:
        """Say whether a form with this token came from a page of this session."""
        return visit is not None and hmac.compare_digest(self.form_token(visit).encode(), (token or "").encode())
