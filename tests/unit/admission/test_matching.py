"""Whether a registration covers a request: each clause, its yes and its no, and what stays open."""

from __future__ import annotations

from typing import Any

import pytest

from wif.admission.matching import Condition, Labels, RequestFacts, Verdict, binding_matches, webhook_matches

PODS: dict[str, Any] = {
    "operations": ["CREATE"],
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "resources": ["pods"],
    "scope": "*",
}
SHOP = Labels({"kubernetes.io/metadata.name": "shop", "team": "a"})
CREATE = RequestFacts(namespace=SHOP, labels={"app": "web"}, name="web-1")
EPHEMERAL = CREATE._replace(operation="UPDATE", sub_resource="ephemeralcontainers")


def selector(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, **({"values": list(values)} if values else {})}]}


def webhook(request: RequestFacts = CREATE, /, **members: Any) -> Verdict:
    return webhook_matches({"rules": [PODS], **members}, request)


def policy(binding: dict[str, Any] | None = None, request: RequestFacts = CREATE, **constraints: Any) -> Verdict:
    return binding_matches({"matchConstraints": {"resourceRules": [PODS], **constraints}}, binding or {}, request)


def test_a_plain_rule_covers_the_request() -> None:
    assert webhook() == Verdict("yes", "", "it covers CREATE pods")


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"operations": ["*"]}, "yes"),
        ({"operations": ["UPDATE", "CREATE"]}, "yes"),
        ({"operations": ["UPDATE"]}, "no"),
        ({"operations": None}, "no"),
        ({"apiGroups": ["*"]}, "yes"),
        ({"apiGroups": ["apps"]}, "no"),
        ({"apiVersions": ["*"]}, "yes"),
        ({"apiVersions": ["v1beta1"]}, "no"),
        ({"scope": "Namespaced"}, "yes"),
        ({"scope": None}, "yes"),
        ({"scope": "Cluster"}, "no"),
        ({"resources": ["*"]}, "yes"),
        ({"resources": ["*/*"]}, "yes"),
        ({"resources": ["pods/*"]}, "yes"),  # as the API server reads it: see the test against it
        ({"resources": ["pods/exec"]}, "no"),
        ({"resources": ["*/exec"]}, "no"),
        ({"resources": ["services", "pods"]}, "yes"),
        ({"resources": None}, "no"),
        ({"resourceNames": ["web-1"]}, "yes"),
        ({"resourceNames": ["db-1"]}, "no"),
    ],
)
def test_each_member_of_a_rule(changes: dict[str, Any], answer: str) -> None:
    assert webhook(rules=[{**PODS, **changes}]).answer == answer
    assert policy(resourceRules=[{**PODS, **changes}]).answer == answer
    assert webhook(rules=[{**PODS, "operations": ["DELETE"]}, {**PODS, **changes}]).answer == answer


@pytest.mark.parametrize(
    ("resource", "answer"),
    [
        ("pods", "no"),
        ("*", "no"),
        ("pods/ephemeralcontainers", "yes"),
        ("*/ephemeralcontainers", "yes"),
        ("pods/*", "yes"),
        ("*/*", "yes"),
        ("pods/status", "no"),
    ],
)
def test_a_sub_resource_is_named_or_starred(resource: str, answer: str) -> None:
    verdict = webhook(EPHEMERAL, rules=[{**PODS, "operations": ["UPDATE"], "resources": [resource]}])
    assert verdict.answer == answer
    assert "UPDATE pods/ephemeralcontainers" in verdict.reason


def test_a_rule_that_does_not_cover_is_shown() -> None:
    rule = {**PODS, "apiGroups": ["apps"], "resources": ["deployments"], "scope": "Cluster", "resourceNames": ["x"]}
    assert webhook(rules=[rule]) == Verdict(
        "no", "rules", "no rule covers CREATE pods: CREATE deployments of apps named x (scope Cluster)"
    )
    assert webhook(rules=None).reason == "no rule covers CREATE pods: none"


@pytest.mark.parametrize(
    ("operator", "values", "answer"),
    [
        ("In", ("a", "b"), "yes"),
        ("In", ("b",), "no"),
        ("NotIn", ("b",), "yes"),
        ("NotIn", ("a",), "no"),
        ("Exists", (), "yes"),
        ("DoesNotExist", (), "no"),
        ("Near", ("a",), "undecided"),
    ],
)
@pytest.mark.parametrize("kind", ["namespaceSelector", "objectSelector"])
def test_each_operator_on_a_label_that_is_there(kind: str, operator: str, values: tuple[str, ...], answer: str) -> None:
    request = CREATE._replace(labels={"team": "a"})
    verdict = webhook(request, **{kind: selector("team", operator, *values)})
    assert verdict.answer == answer
    assert verdict.clause == ("" if answer == "yes" else kind)


@pytest.mark.parametrize(
    ("operator", "values", "answer"),
    [("In", ("a",), "no"), ("NotIn", ("a",), "yes"), ("Exists", (), "no"), ("DoesNotExist", (), "yes")],
)
def test_each_operator_on_a_label_that_is_not_there(operator: str, values: tuple[str, ...], answer: str) -> None:
    for kind in ("namespaceSelector", "objectSelector"):
        assert webhook(**{kind: selector("absent", operator, *values)}).answer == answer


def test_a_selectors_no_names_the_label_and_what_it_is() -> None:
    assert webhook(namespaceSelector=selector("team", "NotIn", "a", "b")) == Verdict(
        "no", "namespaceSelector", "team NotIn (a, b), but it is a"
    )
    assert webhook(objectSelector=selector("use", "Exists")) == Verdict(
        "no", "objectSelector", "use Exists, but there is no such label"
    )


def test_labels_and_expressions_must_all_be_true() -> None:
    both = {"matchLabels": {"team": "a"}, **selector("gone", "DoesNotExist")}
    assert webhook(namespaceSelector=both).answer == "yes"
    assert webhook(namespaceSelector={**both, "matchLabels": {"team": "b"}}).answer == "no"
    assert webhook(namespaceSelector={**both, **selector("team", "DoesNotExist")}).answer == "no"
    assert webhook(namespaceSelector={}, objectSelector=None).answer == "yes"


def test_of_an_unread_namespace_only_the_name_is_known() -> None:
    request = CREATE._replace(namespace=Labels.of_unread_namespace("shop"))
    by_name = selector("kubernetes.io/metadata.name", "NotIn", "kube-system")
    assert webhook(request, namespaceSelector=by_name).answer == "yes"
    found = webhook(request, namespaceSelector=selector("team", "In", "a"))
    assert found == Verdict(
        "undecided", "namespaceSelector", "team In (a), but the labels of the namespace are not known"
    )


def test_a_no_anywhere_wins_over_what_is_open() -> None:
    request = CREATE._replace(namespace=Labels.of_unread_namespace("shop"))
    found = webhook(request, namespaceSelector=selector("team", "Exists"), objectSelector=selector("app", "In", "db"))
    assert (found.answer, found.clause) == ("no", "objectSelector")


def test_cel_is_shown_and_not_evaluated() -> None:
    conditions = [{"name": "no-nodes", "expression": "!('system:nodes' in request.userInfo.groups)"}]
    shown = (Condition("no-nodes", "!('system:nodes' in request.userInfo.groups)"),)
    assert webhook(matchConditions=conditions) == Verdict(
        "undecided", "matchConditions", "CEL decides, all must be true: no-nodes", shown
    )
    assert webhook(matchConditions=conditions, rules=[]).answer == "no"
    spec = {"matchConstraints": {"resourceRules": [PODS]}, "matchConditions": conditions}
    assert binding_matches(spec, {}, CREATE).conditions == shown


def test_match_policy_makes_no_difference_for_pods() -> None:
    for name in ("Exact", "Equivalent"):
        assert webhook(matchPolicy=name) == webhook()


@pytest.mark.parametrize("broken", [{"rules": "all"}, {"matchConditions": [{"name": "x"}]}, {"rules": [{"scope": 1}]}])
def test_a_registration_of_another_shape_is_left_open(broken: dict[str, Any]) -> None:
    assert (webhook(**broken).answer, webhook(**broken).clause) == ("undecided", "registration")


def test_a_policy_of_another_shape_is_left_open() -> None:
    assert policy({"matchResources": []}).clause == "registration"


def test_a_policys_exclusion_decides() -> None:
    assert policy(excludeResourceRules=[{**PODS, "resources": ["*"]}]) == Verdict(
        "no", "matchConstraints.excludeResourceRules", "CREATE * leaves out CREATE pods"
    )
    assert policy(excludeResourceRules=[{**PODS, "resources": ["secrets"]}]).answer == "yes"


def test_a_policys_selectors_decide() -> None:
    found = policy(namespaceSelector=selector("team", "In", "b"), objectSelector=selector("app", "In", "web"))
    assert (found.answer, found.clause) == ("no", "matchConstraints.namespaceSelector")


def test_a_binding_may_narrow() -> None:
    narrow = {"matchResources": {"resourceRules": [{**PODS, "resources": ["secrets"]}]}}
    assert policy(narrow).clause == "matchResources.resourceRules"
    assert policy({"matchResources": {"objectSelector": selector("app", "In", "db")}}).answer == "no"
    assert policy({"matchResources": {"namespaceSelector": selector("team", "In", "a")}}).answer == "yes"


PARAMETERS = {
    "matchConstraints": {"resourceRules": [PODS]},
    "paramKind": {"apiVersion": "v1", "kind": "ServiceAccount"},
}


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (
            {"selector": {"matchLabels": {"inject": "true"}}, "parameterNotFoundAction": "Allow"},
            "evaluated once for each ServiceAccount with inject In (true) in the request's namespace, where it is a "
            "namespaced kind; none there skips the policy",
        ),
        (
            {"selector": {}, "parameterNotFoundAction": "Deny"},
            "evaluated once for each ServiceAccount of any label in the request's namespace, where it is a namespaced "
            "kind; none there refuses the request",
        ),
        (
            {"name": "limits", "namespace": "platform"},
            "evaluated once for each ServiceAccount named limits in platform; none there skips the policy",
        ),
    ],
)
def test_parameters_are_said_and_left_open(reference: dict[str, Any], text: str) -> None:
    assert binding_matches(PARAMETERS, {"paramRef": reference}, CREATE) == Verdict("undecided", "paramRef", text)


def test_a_reference_without_a_kind_and_a_kind_without_a_reference_decide_nothing() -> None:
    assert policy({"paramRef": {"name": "x"}}).answer == "yes"
    assert binding_matches(PARAMETERS, {}, CREATE).answer == "yes"
