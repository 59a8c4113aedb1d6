"""Under which account Postgres runs: it refuses to run as root, so root lends it another one.

That account must reach the programs and the data. Folders on the way that are closed to it, such as /root, get an
access control entry that lets this one account pass through, and nobody else; the usual ``chmod`` would open them for
everybody on the machine.
"""

from __future__ import annotations

import errno
import os
import pwd
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from app.errors import Unavailable

CREATED = "pgserver"
KNOWN = (CREATED, "postgres")

# the layout of POSIX access control lists in extended attributes: linux/posix_acl_xattr.h
ACL_ATTRIBUTE = "system.posix_acl_access"
ACL_VERSION = 2
OWNER, USER, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
NO_ID = 0xFFFFFFFF
SEARCH = 1


@dataclass(frozen=True)
class Account:
    """Numbers of the account to switch to; None: stay who we are."""

    uid: int | None
    gid: int | None


def choose_account(data: Path, program: Path) -> Account:
    """Return the account for Postgres, able to reach its data and its programs.

    Raises:
        Unavailable: root has no account to lend, or it cannot be let through.
    """
    if os.geteuid() != 0:
        return Account(None, None)
    account = _owner(data) if data.exists() else _lent_account()
    for folder in {*program.parents, *data.parents}:
        _let_through(folder, account)
    _probe(program, account)
    return Account(account.pw_uid, account.pw_gid)


def _owner(data: Path) -> pwd.struct_passwd:
    try:
        owner = pwd.getpwuid(data.stat().st_uid)
    except KeyError as error:
        raise Unavailable(
            str(data), "belongs to an account that does not exist", "run as its owner, or set DATABASE_URL"
        ) from error
    if owner.pw_uid == 0:
        raise Unavailable(str(data), "belongs to root, as whom Postgres refuses to run", "give it to another account")
    return owner


def _lent_account() -> pwd.struct_passwd:
    for name in KNOWN:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    try:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", CREATED]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603
        return pwd.getpwnam(CREATED)
    except (OSError, subprocess.CalledProcessError, KeyError) as error:
        raise Unavailable(
            "postgres",
            "it refuses to run as root, and no other account could be made for it",
            "run as an ordinary user, or set DATABASE_URL",
        ) from error


def _let_through(folder: Path, account: pwd.struct_passwd) -> None:
    status = folder.stat()
    if status.st_mode & 0o001 or (status.st_uid == account.pw_uid and status.st_mode & 0o100):
        return
    try:
        entries = _entries(folder, status.st_mode)
        granted = {(tag, who): rights for tag, rights, who in entries}
        if granted.get((USER, account.pw_uid), 0) & granted.get((MASK, NO_ID), 0) & SEARCH:
            return
        granted[USER, account.pw_uid] = granted.get((USER, account.pw_uid), 0) | SEARCH
        granted[MASK, NO_ID] = granted.get((MASK, NO_ID), granted[GROUP, NO_ID]) | SEARCH
        packed = b"".join(struct.pack("<HHI", tag, rights, who) for (tag, who), rights in sorted(granted.items()))
        os.setxattr(folder, ACL_ATTRIBUTE, struct.pack("<I", ACL_VERSION) + packed)
    except (OSError, AttributeError) as error:  # a file system without them; macOS has no such call
        raise Unavailable(
            str(folder),
            f"the account {account.pw_name}, as which Postgres runs, cannot pass through this folder",
            "choose a --home that it can reach, run as an ordinary user, or set DATABASE_URL",
        ) from error


def _entries(folder: Path, mode: int) -> list[tuple[int, int, int]]:
    """Return tag, rights and id of each entry of a folder's list, or what its mode means as a list."""
    try:
        packed = os.getxattr(folder, ACL_ATTRIBUTE)
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return [(OWNER, mode >> 6 & 7, NO_ID), (GROUP, mode >> 3 & 7, NO_ID), (OTHER, mode & 7, NO_ID)]
    return list(struct.iter_unpack("<HHI", packed[4:]))


def _probe(program: Path, account: pwd.struct_passwd) -> None:
    try:
        subprocess.run(  # noqa: S603 - Postgres's own program
            [program, "--version"], check=True, capture_output=True, cwd="/",
            user=account.pw_uid, group=account.pw_gid, extra_groups=[],
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError) as error:
        raise Unavailable(
            str(program),
            f"the account {account.pw_name}, as which Postgres runs, cannot run it",
            "install Querent where everybody can read it, run as an ordinary user, or set DATABASE_URL",
        ) from error
