"""What the policies know of the dialects: which annotations they follow, and which they refuse.

One :class:`Source` for each dialect and cloud. Values are held to patterns that are narrower than the dialects' own;
what does not fit is a problem that refuses the pod, never an injection of half of it.
"""

from __future__ import annotations

__all__ = ["AnnotationField", "Condition", "Source", "sources"]

from collections.abc import Mapping
from typing import NamedTuple

from wif.admission.cel_text import literal, string_list
from wif.config.webhook import WebhookSettings

ROLE = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,512}"
EMAIL = (
    r"[0-9]{5,30}|[A-Za-z0-9._-]{1,64}@([a-z][a-z0-9-]{4,29}\.iam\.gserviceaccount\.com|developer\.gserviceaccount\.com"
    r"|appspot\.gserviceaccount\.com|cloudservices\.gserviceaccount\.com|cloudbuild\.gserviceaccount\.com)"
)
_POOL = (
    r"(projects/[0-9]{1,30}/locations/[a-z0-9-]{1,63}/workloadIdentityPools|locations/[a-z0-9-]{1,63}/workforcePools)"
    r"/[a-z0-9-]{1,63}/providers/[a-z0-9-]{1,63}"
)
PROVIDER = rf"((https:)?//iam\.googleapis\.com/)?{_POOL}"
PFN_PROVIDER = (
    r"projects/[0-9]{1,30}/locations/[a-z0-9-]{1,63}/workloadIdentityPools/[a-z0-9-]{1,63}/providers/[a-z0-9-]{1,63}"
)
CLIENT = r"[A-Za-z0-9._~-]{1,128}"
TENANT = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,3}"
AWS_REGION = r"((us|eu|ap|sa|ca|me|af|il|mx)|cn|eusc-de|us-iso|us-isob|eu-isoe|us-isof|us-gov)-[a-z]{1,20}-[0-9]{1,3}"
GCP_REGION = r"[a-z]+-[a-z]+[0-9]+"
PROJECT = r"([a-z0-9.-]{1,253}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]|[0-9]{1,30}"
SESSION = r"[A-Za-z0-9_+=,.@-]{2,64}"
AUDIENCE = r"[!-~]{1,256}"
SECONDS = r"[0-9]{1,10}"
AZURE_SECONDS = r"(3[6-9][0-9]{2}|[4-9][0-9]{3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400)?"
"""3600 to 86400, or nothing."""
_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")

_ACCOUNT = "variables.account"
_POD = "variables.pod"


class AnnotationField(NamedTuple):
    """An annotation that is followed."""

    key: str
    """The whole key."""
    variable: str
    """Its value in CEL, after ``variables.``; empty where it is not there."""
    pattern: str
    """RE2, for the whole value."""
    on_pod: bool = False


class Condition(NamedTuple):
    """What makes a dialect answer otherwise."""

    expression: str
    annotations: Mapping[str, str] = {}
    """A ServiceAccount's, where it is so."""
    otherwise: Mapping[str, str] = {}
    """Where it is not."""
    replaces: bool = False
    """Its annotations count only where they are there by an earlier condition."""


class Source(NamedTuple):
    """One dialect's identity of one cloud."""

    name: str
    """Of its variables."""
    dialect: str
    cloud: str
    fields: tuple[AnnotationField, ...]
    asked: str
    """CEL: whether ServiceAccount and pod ask for it."""
    problems: tuple[tuple[str, str], ...]
    """CEL that holds where something cannot be followed, and what to say then."""
    annotations: Mapping[str, str]
    """Placeholders that are always there."""
    pod_annotations: Mapping[str, str]
    pod_labels: Mapping[str, str]
    conditions: tuple[Condition, ...]
    texts: Mapping[str, str]
    """Placeholders and expressions."""
    seconds: int
    """The placeholder of the token's lifetime."""
    floor_seconds: int
    max_seconds: int
    default_seconds: int
    own_seconds: tuple[str, ...]
    """Variables with the ServiceAccount's lifetime, the one that goes before first."""
    pod_seconds: str
    skip: str
    """The pod's annotation with names of containers."""
    skip_separator: str


_NATIVE_ONLY = "the policy gives each container one identity of a cloud: run the webhook for it"


def sources(settings: WebhookSettings) -> list[Source]:
    """Those of the dialects that are on, the winning ones first."""
    made = {
        "native": [_native_aws(settings), _native_gcp(settings), _native_azure(settings)],
        "pfn": [_pfn(settings)],
        "eks": [_eks(settings)],
        "azure": [_azure(settings)],
    }
    return [source for dialect, rows in made.items() if dialect in settings.dialects for source in rows]


def _differs(variable: str, default: str) -> str:
    return f"!(variables.{variable} in ['', {literal(default)}])"


def _given(variable: str) -> str:
    return f"variables.{variable} != ''"


def _has(key: str, of: str = _ACCOUNT) -> str:
    return f"{literal(key)} in {of}"


def _role(variable: str, settings: WebhookSettings) -> str:
    if settings.aws_account_id is None:
        return f"variables.{variable}"
    whole = literal(f"arn:{settings.aws_partition}:iam::{settings.aws_account_id}:role/")
    return f"(variables.{variable}.startsWith('arn:') ? variables.{variable} : {whole} + variables.{variable})"


def _role_pattern(settings: WebhookSettings) -> str:
    return ROLE if settings.aws_account_id is None else rf"{ROLE}|[A-Za-z0-9_+=,.@-][A-Za-z0-9_+=,.@/-]{{0,511}}"


# -- native --------------------------------------------------------------------------------------------------------


def _native(settings: WebhookSettings, cloud: str, rows: Mapping[str, tuple[str, str]]) -> tuple[AnnotationField, ...]:
    """Fields by their names: variable and pattern."""
    name = f"native{cloud.capitalize()}"
    start = f"{settings.prefix}/{cloud}."
    common = {"audience": ("Audience", AUDIENCE), "token-expiration": ("OwnSeconds", SECONDS)}
    return (
        *(AnnotationField(start + key, name + last, pattern) for key, (last, pattern) in {**rows, **common}.items()),
        AnnotationField(f"{settings.prefix}/token-expiration", f"{name}AllSeconds", SECONDS),
        AnnotationField(f"{settings.prefix}/token-expiration", f"{name}PodSeconds", SECONDS, on_pod=True),
    )


def _native_problems(settings: WebhookSettings, cloud: str) -> tuple[tuple[str, str], ...]:
    """Identities that have names, and choices among them."""
    prefix = settings.prefix
    use = f"k == {literal(f'{prefix}/use')} || k.startsWith({literal(f'{prefix}/use.')})"
    mode = literal(f"{prefix}/mode")
    return (
        (_named(prefix, cloud), f"{prefix}/{cloud}.* names identities or containers: {_NATIVE_ONLY}"),
        (f"{_POD}.exists(k, {use})", f"{prefix}/use on the pod: {_NATIVE_ONLY}"),
        *(
            (f"{mode} in {of} && {of}[{mode}] != 'files'", f"{prefix}/mode is not files: the sidecar needs the webhook")
            for of in (_ACCOUNT, _POD)
        ),
    )


def _named(prefix: str, cloud: str) -> str:
    """CEL: whether the ServiceAccount speaks of identities with names, or of single containers."""
    keys = literal(rf"^{_escaped(prefix)}/{cloud}\.([^.]+\.[a-z-]+|containers)$")
    return f"{_ACCOUNT}.exists(k, k.matches({keys}))"


def _escaped(text: str) -> str:
    return text.replace(".", "\\.")


def _native_source(  # noqa: PLR0917 - one row of a table
    settings: WebhookSettings,
    cloud: str,
    rows: Mapping[str, tuple[str, str]],
    asked: str,
    annotations: Mapping[str, str],
    conditions: tuple[Condition, ...],
    texts: Mapping[str, str],
    problems: tuple[tuple[str, str], ...] = (),
) -> Source:
    name = f"native{cloud.capitalize()}"
    start = f"{settings.prefix}/{cloud}."
    audience = f"wif-symbol-{cloud}-audience"
    seconds = {"aws": 40_961, "gcp": 40_962, "azure": 40_963}[cloud]
    default = str(getattr(settings, f"{cloud}_audience"))
    return Source(
        name=name,
        dialect="native",
        cloud=cloud,
        fields=_native(settings, cloud, rows),
        asked=f"{asked} || {_named(settings.prefix, cloud)}",
        problems=(*problems, *_native_problems(settings, cloud)),
        annotations={**annotations, f"{start}token-expiration": str(seconds)},
        pod_annotations={f"{settings.prefix}/skip-containers": "wif-symbol-skip"},
        pod_labels={},
        conditions=(*conditions, Condition(_differs(f"{name}Audience", default), {f"{start}audience": audience})),
        texts={**texts, audience: f"variables.{name}Audience"},
        seconds=seconds,
        floor_seconds=600,
        max_seconds=settings.max_token_expiration,
        default_seconds=int(getattr(settings, f"{cloud}_token_expiration")),
        own_seconds=(f"{name}OwnSeconds", f"{name}AllSeconds"),
        pod_seconds=f"{name}PodSeconds",
        skip=f"{settings.prefix}/skip-containers",
        skip_separator=",",
    )


def _native_aws(settings: WebhookSettings) -> Source:
    start = f"{settings.prefix}/aws."
    return _native_source(
        settings,
        "aws",
        {
            "role-arn": ("Role", _role_pattern(settings)),
            "region": ("Region", AWS_REGION),
            "session-name": ("Session", SESSION),
        },
        _has(f"{start}role-arn"),
        {f"{start}role-arn": _SYMBOL_ROLE},
        (
            Condition(_given("nativeAwsRegion"), {f"{start}region": "us-wifsymbol-1"}),
            Condition(_given("nativeAwsSession"), {f"{start}session-name": "wif-symbol-session"}),
        ),
        {
            _SYMBOL_ROLE: _role("nativeAwsRole", settings),
            "us-wifsymbol-1": "variables.nativeAwsRegion",
            "wif-symbol-session": "variables.nativeAwsSession",
        },
    )


_SYMBOL_ROLE = "arn:aws:iam::000000000000:role/wif-symbol-role"
_SYMBOL_PROVIDER = "projects/700700700700/locations/global/workloadIdentityPools/wif-symbol-pool/providers/wif-symbol"
_SYMBOL_MAIL = "wif-symbol-mail@developer.gserviceaccount.com"
_SYMBOL_PROJECT_MAIL = "wif-symbol-mail@wif-symbol-owner.iam.gserviceaccount.com"
_OF_PROJECT = ".iam.gserviceaccount.com"


def _mail_texts(variable: str) -> dict[str, str]:
    """The project's id is a part of the address."""
    return {
        _SYMBOL_MAIL: f"variables.{variable}",
        _SYMBOL_PROJECT_MAIL: f"variables.{variable}",
        "wif-symbol-owner": f"variables.{variable}.split('@')[1].replace({literal(_OF_PROJECT)}, '')",
    }


def _native_gcp(settings: WebhookSettings) -> Source:
    start = f"{settings.prefix}/gcp."
    provider, mail = f"{start}provider", f"{start}service-account"
    direct = literal(f"{start}direct")
    is_direct = f"{direct} in {_ACCOUNT} && {_ACCOUNT}[{direct}] == 'true'"
    asked = f"{_has(provider)} || {_has(mail)} || ({is_direct})"
    conditions: tuple[Condition, ...] = ()
    problems: tuple[tuple[str, str], ...] = (
        (f"{direct} in {_ACCOUNT} && !({_ACCOUNT}[{direct}] in ['true', 'false'])", f"{start}direct is not true"),
        (f"({is_direct}) && {_has(mail)}", f"{start}direct contradicts {mail}"),
    )
    if settings.gcp_provider is None:
        problems += ((f"!({_has(provider)})", f"{provider} is missing, and the settings have no gcp_provider"),)
        always = {provider: _SYMBOL_PROVIDER}
    else:
        always = {f"{start}direct": "true"}
        conditions = (Condition(_given("nativeGcpProvider"), {provider: _SYMBOL_PROVIDER}),)
    return _native_source(
        settings,
        "gcp",
        {
            "provider": ("Provider", PROVIDER),
            "service-account": ("Mail", EMAIL),
            "project": ("Project", PROJECT),
            "region": ("Region", GCP_REGION),
        },
        asked,
        always,
        (
            *conditions,
            Condition(_given("nativeGcpMail"), {mail: _SYMBOL_MAIL, f"{start}direct": "false"}),
            Condition(
                f"variables.nativeGcpMail.endsWith({literal(_OF_PROJECT)})", {mail: _SYMBOL_PROJECT_MAIL}, replaces=True
            ),
            Condition(_given("nativeGcpProject"), {f"{start}project": "wif-symbol-project"}),
            Condition(_given("nativeGcpRegion"), {f"{start}region": "wif-symbolregion1"}),
        ),
        {
            # a host may stand before it, which the credential file has once
            _SYMBOL_PROVIDER: "variables.nativeGcpProvider.replace('https:', '').replace('//iam.googleapis.com/', '')",
            _pool(_SYMBOL_PROVIDER): "variables.nativeGcpProvider.replace('https:', '')"
            ".replace('//iam.googleapis.com/', '').split('/providers/')[0]",
            **_mail_texts("nativeGcpMail"),
            "wif-symbol-project": "variables.nativeGcpProject",
            "wif-symbolregion1": "variables.nativeGcpRegion",
        },
        problems,
    )


def _pool(provider: str) -> str:
    return provider.partition("/providers/")[0]


def _native_azure(settings: WebhookSettings) -> Source:
    start = f"{settings.prefix}/azure."
    client, tenant = f"{start}client-id", f"{start}tenant-id"
    always = {client: "wif-symbol-client"}
    conditions: tuple[Condition, ...] = (Condition(_given("nativeAzureTenant"), {tenant: _TENANT}),)
    problems: tuple[tuple[str, str], ...] = (_many_tenants("nativeAzureTenant", tenant),)
    if settings.azure_tenant_id is None:
        always, conditions = {client: "wif-symbol-client", tenant: _TENANT}, ()
        problems += ((f"!({_has(tenant)})", f"{tenant} is missing, and the settings have no azure_tenant_id"),)
    return _native_source(
        settings,
        "azure",
        {"client-id": ("Client", CLIENT), "tenant-id": ("Tenant", TENANT)},
        _has(client),
        always,
        conditions,
        {"wif-symbol-client": "variables.nativeAzureClient", _TENANT: "variables.nativeAzureTenant"},
        problems,
    )


_TENANT = "wif-symbol.tenant"


def _many_tenants(variable: str, key: str) -> tuple[str, str]:
    many = string_list(("common", "organizations", "consumers"))
    return f"variables.{variable}.lowerAscii() in {many}", f"{key} stands for many tenants"


# -- the peers -----------------------------------------------------------------------------------------------------


def _pfn(settings: WebhookSettings) -> Source:
    prefix = settings.gcp_prefix
    provider, mail = f"{prefix}/workload-identity-provider", f"{prefix}/service-account-email"
    mode = literal(f"{prefix}/injection-mode")
    always, conditions = {provider: _SYMBOL_PROVIDER, mail: _SYMBOL_MAIL}, tuple[Condition, ...]()
    partial = f"({_has(provider)}) != ({_has(mail)})"
    if settings.gcp_provider is not None:
        always, conditions = {mail: _SYMBOL_MAIL}, (Condition(_given("pfnProvider"), {provider: _SYMBOL_PROVIDER}),)
        partial = f"({_has(provider)}) && !({_has(mail)})"
    return Source(
        name="pfn",
        dialect="pfn",
        cloud="gcp",
        fields=(
            AnnotationField(provider, "pfnProvider", PFN_PROVIDER),
            AnnotationField(mail, "pfnMail", EMAIL),
            AnnotationField(f"{prefix}/audience", "pfnAudience", AUDIENCE),
            AnnotationField(f"{prefix}/token-expiration", "pfnOwnSeconds", SECONDS),
            AnnotationField(f"{prefix}/token-expiration", "pfnPodSeconds", SECONDS, on_pod=True),
        ),
        asked=f"{_has(provider)} || {_has(mail)}",
        problems=(
            (partial, f"one of {provider} and {mail} is missing"),
            (
                f"{mode} in {_ACCOUNT} && {_ACCOUNT}[{mode}].lowerAscii() != 'direct'",
                f"{prefix}/injection-mode is not direct: the policy runs no container of gcloud",
            ),
        ),
        annotations={**always, f"{prefix}/injection-mode": "direct", f"{prefix}/token-expiration": "40964"},
        pod_annotations={f"{prefix}/skip-containers": "wif-symbol-skip"},
        pod_labels={},
        conditions=(
            *conditions,
            Condition(
                f"variables.pfnMail.endsWith({literal(_OF_PROJECT)})", {mail: _SYMBOL_PROJECT_MAIL}, replaces=True
            ),
            Condition(
                _differs("pfnAudience", settings.gcp_audience), {f"{prefix}/audience": "wif-symbol-pfn-audience"}
            ),
        ),
        texts={
            _SYMBOL_PROVIDER: "variables.pfnProvider",
            "wif-symbol-pfn-audience": "variables.pfnAudience",
            **_mail_texts("pfnMail"),
        },
        seconds=40_964,
        floor_seconds=3600,
        max_seconds=settings.max_token_expiration,
        default_seconds=settings.gcp_token_expiration,
        own_seconds=("pfnOwnSeconds",),
        pod_seconds="pfnPodSeconds",
        skip=f"{prefix}/skip-containers",
        skip_separator=",",
    )


def _eks(settings: WebhookSettings) -> Source:
    prefix = settings.aws_prefix
    role = f"{prefix}/role-arn"
    regional = f"variables.eksRegional in {string_list(_TRUE)}"
    if settings.aws_regional_sts:
        regional = f"!(variables.eksRegional in {string_list(_FALSE)})"
    skip = literal(f"{prefix}/skip-containers")
    return Source(
        name="eks",
        dialect="eks",
        cloud="aws",
        fields=(
            AnnotationField(role, "eksRole", f"({_role_pattern(settings)})?"),
            AnnotationField(f"{prefix}/audience", "eksAudience", AUDIENCE),
            AnnotationField(f"{prefix}/sts-regional-endpoints", "eksRegional", "|".join((*_TRUE, *_FALSE))),
            AnnotationField(f"{prefix}/token-expiration", "eksOwnSeconds", SECONDS),
            AnnotationField(f"{prefix}/token-expiration", "eksPodSeconds", SECONDS, on_pod=True),
        ),
        asked="variables.eksRole != '' && !('eks.amazonaws.com/skip-pod-identity-webhook' in variables.labels)",
        problems=(
            (
                f"{skip} in {_POD} && !{_POD}[{skip}].matches('^[a-z0-9,-]*$')",
                f"{prefix}/skip-containers on the pod: write the names with commas alone between them",
            ),
        ),
        annotations={role: _SYMBOL_ROLE, f"{prefix}/token-expiration": "40965"},
        pod_annotations={f"{prefix}/skip-containers": "wif-symbol-skip"},
        pod_labels={},
        conditions=(
            Condition(
                _differs("eksAudience", settings.aws_audience), {f"{prefix}/audience": "wif-symbol-eks-audience"}
            ),
            Condition(
                regional, {f"{prefix}/sts-regional-endpoints": "true"}, {f"{prefix}/sts-regional-endpoints": "false"}
            ),
        ),
        texts={_SYMBOL_ROLE: _role("eksRole", settings), "wif-symbol-eks-audience": "variables.eksAudience"},
        seconds=40_965,
        floor_seconds=600,
        max_seconds=settings.max_token_expiration,
        default_seconds=settings.aws_token_expiration,
        own_seconds=("eksOwnSeconds",),
        pod_seconds="eksPodSeconds",
        skip=f"{prefix}/skip-containers",
        skip_separator=",",
    )


def _azure(settings: WebhookSettings) -> Source:
    prefix = settings.azure_prefix
    client, tenant = f"{prefix}/client-id", f"{prefix}/tenant-id"
    expiration, use = f"{prefix}/service-account-token-expiration", literal(f"{prefix}/use")
    return Source(
        name="azure",
        dialect="azure",
        cloud="azure",
        fields=(
            AnnotationField(client, "azureClient", CLIENT),
            AnnotationField(tenant, "azureTenant", TENANT),
            AnnotationField(expiration, "azureOwnSeconds", AZURE_SECONDS),
            AnnotationField(expiration, "azurePodSeconds", AZURE_SECONDS, on_pod=True),
        ),
        asked=f"{use} in variables.labels && variables.labels[{use}] == 'true'",
        problems=(
            _many_tenants("azureTenant", tenant),
            (_has(f"{prefix}/inject-proxy-sidecar", _POD), f"{prefix}/inject-proxy-sidecar: there is no proxy"),
        ),
        annotations={expiration: "40966"},
        pod_annotations={f"{prefix}/skip-containers": "wif-symbol-skip"},
        pod_labels={f"{prefix}/use": "true"},
        conditions=(
            Condition(_given("azureClient"), {client: "wif-symbol-client"}),
            Condition(_given("azureTenant"), {tenant: _TENANT}),
        ),
        texts={"wif-symbol-client": "variables.azureClient", _TENANT: "variables.azureTenant"},
        seconds=40_966,
        floor_seconds=3600,
        max_seconds=min(86_400, settings.max_token_expiration),
        default_seconds=settings.azure_token_expiration,
        own_seconds=("azureOwnSeconds",),
        pod_seconds="azurePodSeconds",
        skip=f"{prefix}/skip-containers",
        skip_separator=";",
    )
