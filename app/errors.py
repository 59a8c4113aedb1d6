"""Every error that a person can meet, as one tree.

    QuerentError                     something a person can understand and mend
    ├── BadInput            (400)    what was sent cannot be used
    │   ├── RecipeError     (422)    an unknown or out-of-bounds choice in a recipe
    │   ├── UnreadableImage (422)    a file that is no image
    │   ├── TooLarge        (413)    a request bigger than the server takes
    │   └── ForeignForm     (403)    a form whose token is not this session's
    ├── NotSignedIn         (401)    no session, or one that has ended
    │   ├── WrongPassword   (401)
    │   ├── TooManyTries    (429)    wrong too often in a short time
    │   └── ExpiredLink     (410)    a one-time link that was used or is too old
    ├── NotAllowed          (403)    the role does not include this
    ├── NotFound            (404)    no such thing
    │   └── NotAMember      (404)    of a project that the person has left
    │       └── LeftProject (404)    and still answers
    ├── Conflict            (409)    true when asked, no longer true now
    │   ├── LeaseLost       (409)    the query has passed to someone else
    │   │   └── AnsweredAlready (409) by the same person
    │   ├── AnswerGone      (409)    an answer that no longer counts, or was never given
    │   ├── ClassRetired    (409)    the class is not given any more
    │   ├── BudgetSpent     (409)    all labels of the budget are given
    │   └── NameTaken       (409)
    └── Unavailable         (503)    a server or a worker is not there

Each says what was wrong (the input), why (the reason) and what to do (the remedy); pages, the API and the command line
print the same three. Programming errors are not in this tree: they stay ordinary exceptions and answer 500.
"""

from __future__ import annotations


class QuerentError(Exception):
    """Base of the tree; carries the input, the reason and the remedy, and the HTTP status of its kind."""

    status = 500
    code = "error"

    def __init__(self, subject: str, reason: str, remedy: str) -> None:
        super().__init__(f"{subject}: {reason}; {remedy}.")
        self.subject = subject
        self.reason = reason
        self.remedy = remedy

    def as_json(self) -> dict[str, str]:
        """Return what the API answers and the labeling page shows."""
        return {
            "error": self.code,
            "subject": self.subject,
            "reason": self.reason,
            "remedy": self.remedy,
            "message": str(self),
        }


class BadInput(QuerentError):
    """What was sent cannot be used."""

    status = 400
    code = "bad_input"


class RecipeError(BadInput):
    """An unknown or out-of-bounds choice in a recipe."""

    status = 422
    code = "recipe"


class UnreadableImage(BadInput):
    """A file that is no image, or one that is damaged."""

    status = 422
    code = "unreadable_image"


class TooLarge(BadInput):
    """The request is bigger than the server takes."""

    status = 413
    code = "too_large"


class ForeignForm(BadInput):
    """A form whose token does not belong to this session."""

    status = 403
    code = "foreign_form"


class NotSignedIn(QuerentError):
    """No session, or one that has ended."""

    status = 401
    code = "not_signed_in"


class WrongPassword(NotSignedIn):
    """The name and the password do not fit together."""

    code = "wrong_password"


class TooManyTries(NotSignedIn):
    """The password was wrong too often in a short time."""

    status = 429
    code = "too_many_tries"


class ExpiredLink(NotSignedIn):
    """A one-time link that was used already or is too old."""

    status = 410
    code = "expired_link"


class NotAllowed(QuerentError):
    """The person's role does not include this."""

    status = 403
    code = "not_allowed"


class NotFound(QuerentError):
    """There is no such thing."""

    status = 404
    code = "not_found"


class NotAMember(NotFound):
    """The person is no member of the project any more; strangers are told that there is no such project."""

    code = "not_a_member"


class LeftProject(NotAMember):
    """An answer came after its person had left the project."""

    code = "left_project"


class Conflict(QuerentError):
    """It was true when it was asked for and no longer is."""

    status = 409
    code = "conflict"


class LeaseLost(Conflict):
    """The query has passed to someone else, or is closed."""

    code = "lease_lost"


class AnsweredAlready(LeaseLost):
    """The same person has answered this image before."""

    code = "answered_already"


class AnswerGone(Conflict):
    """The answer that is meant does not count any more, or was never given."""

    code = "answer_gone"


class ClassRetired(Conflict):
    """The class was retired while somebody chose it."""

    code = "class_retired"


class BudgetSpent(Conflict):
    """All labels of the budget are given."""

    code = "budget_spent"


class NameTaken(Conflict):
    """Another thing has this name."""

    code = "name_taken"


class Unavailable(QuerentError):
    """A server or a worker that is needed is not there."""

    status = 503
    code = "unavailable"
