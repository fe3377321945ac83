"""The parameters of AWS' calls and their limits, with the words in which STS refuses a value.

Names, lengths and patterns are those of the API model ``sts/2011-06-15``; the form of the texts was seen in answers.
"""

from __future__ import annotations

__all__ = [
    "ASSUME_ROLE",
    "ASSUME_ROLE_WITH_WEB_IDENTITY",
    "Constraint",
    "packed_percent",
    "policy_is_json",
    "session_policies",
    "tags_of",
    "validate",
]

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from wif.core.jws import parse_json

ALLOTTED_CHARACTERS = 2048
"""For inline and managed session policies together. The packed format is AWS' own; the plain length stands in."""
MAX_POLICY_ARNS = 10
MAX_TAGS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What one parameter may be."""

    name: str
    required: bool = False
    shortest: int = 0
    longest: int = 2048
    pattern: re.Pattern[str] | None = None
    shown_pattern: str = ""
    secret: bool = False
    smallest: int | None = None
    """With ``largest``: the parameter is a number."""
    largest: int | None = None

    @property
    def member(self) -> str:
        """What texts call it."""
        return self.name[0].lower() + self.name[1:]


_ARN_PATTERN = r"[\u0009\u000A\u000D\u0020-\u007E\u0085\u00A0-\uD7FF\uE000-\uFFFD\u10000-\u10FFFF]+"
_ARN = re.compile("[\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
_POLICY_PATTERN = r"[\u0009\u000A\u000D\u0020-\u00FF]+"
_POLICY = re.compile("[\t\n\r -\xff]+")
_NAME_PATTERN = r"[\w+=,.@-]*"
_NAME = re.compile(_NAME_PATTERN, re.ASCII)
_EXTERNAL_PATTERN = r"[\w+=,.@:\/-]*"
_EXTERNAL = re.compile(_EXTERNAL_PATTERN, re.ASCII)

_ROLE_ARN = Constraint(name="RoleArn", required=True, shortest=20, pattern=_ARN, shown_pattern=_ARN_PATTERN)
_SESSION_NAME = Constraint(
    name="RoleSessionName", required=True, shortest=2, longest=64, pattern=_NAME, shown_pattern=_NAME_PATTERN
)
_SESSION_POLICY = Constraint(name="Policy", shortest=1, pattern=_POLICY, shown_pattern=_POLICY_PATTERN)
_DURATION = Constraint(name="DurationSeconds", smallest=900, largest=43200)

ASSUME_ROLE_WITH_WEB_IDENTITY = (
    _ROLE_ARN,
    _SESSION_NAME,
    Constraint(name="WebIdentityToken", required=True, shortest=4, longest=20000, secret=True),
    Constraint(name="ProviderId", shortest=4),
    _SESSION_POLICY,
    _DURATION,
)
ASSUME_ROLE = (
    _ROLE_ARN,
    _SESSION_NAME,
    Constraint(name="ExternalId", shortest=2, longest=1224, pattern=_EXTERNAL, shown_pattern=_EXTERNAL_PATTERN),
    Constraint(name="SourceIdentity", shortest=2, longest=64, pattern=_NAME, shown_pattern=_NAME_PATTERN),
    _SESSION_POLICY,
    _DURATION,
)


def validate(parameters: Mapping[str, str], constraints: Sequence[Constraint]) -> list[str]:
    """What is wrong with the parameters, in STS' words; empty where nothing is."""
    problems: list[str] = []
    for constraint in constraints:
        value = parameters.get(constraint.name)
        if not value and (constraint.required or value is None):
            if constraint.required:
                problems.append(_problem("null", constraint, "not be null"))
            continue
        assert value is not None  # noqa: S101 - an empty one goes on to its own limits
        problems += _problems(value, constraint)
    arns = session_policies(parameters)[1]
    if len(arns) > MAX_POLICY_ARNS:
        shown = Constraint(name="PolicyArns")
        problems.append(_problem("'[…]'", shown, f"have length less than or equal to {MAX_POLICY_ARNS}"))
    return problems


def _problems(value: str, constraint: Constraint) -> list[str]:
    shown = "'***'" if constraint.secret else f"'{value[:2048]}'"
    if constraint.smallest is not None and constraint.largest is not None:
        if not re.fullmatch(r"[0-9]{1,9}", value, re.ASCII):
            return [_problem(shown, constraint, "be an integer")]
        if int(value) < constraint.smallest:
            return [_problem(shown, constraint, f"have value greater than or equal to {constraint.smallest}")]
        if int(value) > constraint.largest:
            return [_problem(shown, constraint, f"have value less than or equal to {constraint.largest}")]
        return []
    problems = []
    if len(value) < constraint.shortest:
        problems.append(_problem(shown, constraint, f"have length greater than or equal to {constraint.shortest}"))
    if len(value) > constraint.longest:
        problems.append(_problem(shown, constraint, f"have length less than or equal to {constraint.longest}"))
    if constraint.pattern is not None and not constraint.pattern.fullmatch(value):
        problems.append(_problem(shown, constraint, f"satisfy regular expression pattern: {constraint.shown_pattern}"))
    return problems


def _problem(shown: str, constraint: Constraint, what: str) -> str:
    return f"Value {shown} at '{constraint.member}' failed to satisfy constraint: Member must {what}"


def session_policies(parameters: Mapping[str, str]) -> tuple[str, list[str]]:
    """The inline session policy, and the ARNs of the managed ones."""
    if len(parameters) < 5:  # Action, Version, RoleArn and RoleSessionName are always there
        return "", []
    arns = [
        value
        for name, value in parameters.items()
        if name.startswith("PolicyArns.member.") and name.endswith(".arn") and value
    ]
    return parameters.get("Policy", ""), arns


def policy_is_json(policy: str) -> bool:
    """Whether a session policy is a JSON object with statements."""
    try:
        document = parse_json(policy.encode("utf-8"))
    except ValueError:
        return False
    return isinstance(document, dict) and isinstance(document.get("Statement"), list | dict)


def packed_percent(policy: str, others: Sequence[str]) -> int:
    """How much of the allotted space a policy and other texts take, rounded up."""
    size = len(policy) + sum(map(len, others))
    return -(-size * 100 // ALLOTTED_CHARACTERS)


def tags_of(parameters: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The session tags and transitive keys of AssumeRole.

    Raises:
        ValueError: too many, a key without value, or one outside its limits; the text is STS'.
    """
    tags: dict[str, str] = {}
    for name, key in parameters.items():
        match = re.fullmatch(r"Tags\.member\.([0-9]{1,3})\.Key", name, re.ASCII)
        if match is None:
            continue
        value = parameters.get(f"Tags.member.{match[1]}.Value", "")
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise ValueError(
                f"Value '{key[:200]}' at 'tags.{match[1]}.member.key' failed to satisfy constraint: Member must have "
                "length less than or equal to 128"
            )
        if key in tags:
            raise ValueError("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
        tags[key] = value
    transitive = [value for name, value in parameters.items() if name.startswith("TransitiveTagKeys.member.")]
    if len(tags) > MAX_TAGS:
        raise ValueError(
            "Value '[…]' at 'tags' failed to satisfy constraint: Member must have length less than or equal to "
            f"{MAX_TAGS}"
        )
    if not set(transitive) <= set(tags):
        raise ValueError("The specified transitive tag key must be included in the requested tags.")
    return tags, transitive
