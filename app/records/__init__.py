"""Nouns: every table, a file per family. Importing this package registers all of them on ``Base.metadata``."""

from app.records.accounts import Role, SignInLink, User
from app.records.annotations import Annotation, Outcome, UnusableReason
from app.records.images import Image, LabelChange, LabelRule, ReviewReason, Split
from app.records.ledger import PseudoLabel
from app.records.memberships import Membership, Standing
from app.records.models import Model
from app.records.projects import Class, Import, ImportState, OracleKind, Project, ProjectState, ReasonsShown
from app.records.rounds import CHECKS, TYPICAL, Lease, Query, QuerySource, Round, RoundReason, RoundState

__all__ = [
    "CHECKS",
    "TYPICAL",
    "Annotation",
    "Class",
    "Image",
    "Import",
    "ImportState",
    "LabelChange",
    "LabelRule",
    "Lease",
    "Membership",
    "Model",
    "OracleKind",
    "Outcome",
    "Project",
    "ProjectState",
    "PseudoLabel",
    "Query",
    "QuerySource",
    "ReasonsShown",
    "ReviewReason",
    "Role",
    "Round",
    "RoundReason",
    "RoundState",
    "SignInLink",
    "Split",
    "Standing",
    "UnusableReason",
    "User",
]
