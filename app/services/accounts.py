"""People: passwords, one-time links and sessions."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from functools import cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.errors import BadInput, ExpiredLink, NameTaken, NotAllowed, NotFound, NotSignedIn, WrongPassword
from app.records import Role, SignInLink, User
from app.services import members
from app.services.clock import now

PASSWORD_LENGTH = 8
FIRST_ADMIN = "admin"
ORACLE = "simulated oracle"

_hasher = PasswordHasher()


@cache
def _nobody() -> str:
    """Return a hash that is checked when the name is unknown, so that this takes as long as a wrong password."""
    return _hasher.hash(secrets.token_hex(16))


def create_user(session: Session, name: str, role: Role, password: str | None = None) -> User:
    """Create a person; without a password only a one-time link signs them in.

    Raises:
        BadInput: an empty or overlong name, or a password shorter than ``PASSWORD_LENGTH``.
        NameTaken: somebody has this name.
    """
    name = name.strip().lower()
    if not 1 <= len(name) <= 80:
        raise BadInput("name", "it must have 1 to 80 characters", "choose another")
    if session.scalar(select(User.id).where(User.name == name)):
        raise NameTaken(f"name {name!r}", "somebody has it already", "choose another")
    user = User(name=name, role=role, password_hash=None if password is None else _hashed(password))
    session.add(user)
    session.flush()
    return user


def sign_in(session: Session, name: str, password: str) -> User:
    """Return the person whose name and password these are.

    Raises:
        WrongPassword: they do not fit together; it is not said which one is wrong.
    """
    user = session.scalar(select(User).where(User.name == name.strip().lower(), User.disabled_at.is_(None)))
    stored = _nobody() if user is None or user.password_hash is None else user.password_hash
    try:
        _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        user = None
    if user is None or user.password_hash is None:
        raise WrongPassword(
            "name and password", "they do not fit together", "try again, or ask an admin for a new one-time link"
        )
    if _hasher.check_needs_rehash(user.password_hash):
        user.password_hash = _hashed(password)
    return user


def issue_link(session: Session, user: User, hours: int) -> str:
    """Return the token of a link that signs the person in once; earlier links of theirs stop working."""
    for link in session.scalars(select(SignInLink).where(SignInLink.user_id == user.id, SignInLink.used_at.is_(None))):
        link.used_at = now(session)
    token = secrets.token_urlsafe(32)
    expires_at = now(session, timedelta(hours=hours))
    session.add(SignInLink(user_id=user.id, token_hash=_digest(token), expires_at=expires_at))
    session.flush()
    return token


def user_of_link(session: Session, token: str) -> User:
    """Return the person whom a link signs in, without using it up.

    Raises:
        ExpiredLink: unknown, used or too old.
    """
    return _link_and_user(session, token)[1]


def redeem_link(session: Session, token: str, password: str) -> User:
    """Use a link up: set the person's password, end their other sessions and return them.

    Raises:
        ExpiredLink: unknown, used or too old.
        BadInput: the password is too short.
    """
    link, user = _link_and_user(session, token)
    user.password_hash = _hashed(password)
    user.session_epoch += 1
    link.used_at = now(session)
    session.flush()
    return user


def user_of_session(session: Session, user_id: int, epoch: int) -> User:
    """Return the person of a signed session.

    Raises:
        NotSignedIn: the session was ended, or the person was disabled.
    """
    user = session.get(User, user_id)
    if user is None or user.disabled_at is not None or user.session_epoch != epoch or user.role is Role.ORACLE:
        raise NotSignedIn("session", "it has ended", "sign in again")
    return user


def get_user(session: Session, user_id: int) -> User:
    """Return a person; raise NotFound if there is none of that id."""
    user = session.get(User, user_id)
    if user is None or user.role is Role.ORACLE:
        raise NotFound(f"user {user_id}", "there is no such person", "choose one from the list of people")
    return user


def find_user(session: Session, name: str) -> User:
    """Return the person of a name; raise NotFound if there is none."""
    user = session.scalar(select(User).where(User.name == name.strip().lower(), User.role != Role.ORACLE))
    if user is None:
        known = select(User.name).where(User.role != Role.ORACLE).order_by(User.name).limit(20)
        names = ", ".join(repr(other) for other in session.scalars(known))
        raise NotFound(f"user {name!r}", "there is nobody of this name", f"use one of: {names or 'none yet'}")
    return user


def end_sessions(session: Session, user: User) -> None:
    """Sign the person out everywhere."""
    user.session_epoch += 1
    session.flush()


def sign_out(session: Session, user_id: int, epoch: int) -> None:
    """Give back what the person of a signed session holds, since they are leaving; nothing if it has ended already."""
    user = session.get(User, user_id)
    if user is not None and user.session_epoch == epoch:
        members.return_all(session, user.id)


def set_disabled(session: Session, user: User, disabled: bool) -> None:
    """Shut a person out, and give back what they hold, or let them in again; their annotations stay.

    Raises:
        NotAllowed: it is the last admin who can sign in.
    """
    if disabled and user.role is Role.ADMIN:
        others = select(func.count()).where(User.role == Role.ADMIN, User.disabled_at.is_(None), User.id != user.id)
        if not session.scalar(others):
            raise NotAllowed(f"user {user.name!r}", "this is the last admin", "make another admin first")
    user.disabled_at = now(session) if disabled else None
    end_sessions(session, user)
    if disabled:
        members.return_all(session, user.id)


def list_users(session: Session) -> list[User]:
    """Return all people by name, the simulated oracle left out."""
    return list(session.scalars(select(User).where(User.role != Role.ORACLE).order_by(User.name)))


def oracle_user(session: Session) -> User:
    """Return the simulated oracle's account, made when first needed."""
    user = session.scalar(select(User).where(User.role == Role.ORACLE))
    return user or create_user(session, ORACLE, Role.ORACLE)


def first_admin_link(session: Session, hours: int) -> str | None:
    """Return a one-time token while no admin has chosen a password yet, making the first admin if need be."""
    chosen = select(User.id).where(User.role == Role.ADMIN, User.password_hash.is_not(None))
    if session.scalar(chosen.limit(1)):
        return None
    admin = session.scalar(select(User).where(User.role == Role.ADMIN).order_by(User.id).limit(1))
    return issue_link(session, admin or create_user(session, FIRST_ADMIN, Role.ADMIN), hours)


def _link_and_user(session: Session, token: str) -> tuple[SignInLink, User]:
    link = session.scalar(
        select(SignInLink)
        .where(
            SignInLink.token_hash == _digest(token), SignInLink.used_at.is_(None), SignInLink.expires_at > func.now()
        )
        .with_for_update()
    )
    user = None if link is None else session.get(User, link.user_id)
    if link is None or user is None or user.disabled_at is not None:
        raise ExpiredLink(
            "one-time link",
            "it was used already or is too old",
            "ask an admin for a new one, or run `querent user link`",
        )
    return link, user


def _hashed(password: str) -> str:
    if len(password) < PASSWORD_LENGTH:
        raise BadInput("password", f"it is shorter than {PASSWORD_LENGTH} characters", "choose a longer one")
    return _hasher.hash(password)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
