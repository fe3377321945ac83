"""AWS' config file: what is written, and what an edit leaves alone. botocore's own reader is the judge."""

from __future__ import annotations

import configparser
import shlex

import pytest
from botocore.configloader import build_profile_map
from hypothesis import assume, given
from hypothesis import strategies as st

from wif.clouds.aws_config import (
    CONFLICTING_WITH_PROFILE,
    MARK,
    WebIdentityProfile,
    edit,
    process_settings,
    profile_text,
    profile_variables,
    terraform,
    web_identity_settings,
    web_identity_variables,
)
from wif.errors import ConfigurationError

ROLE = "arn:aws:iam::111122223333:role/app"
PROFILE = WebIdentityProfile(role_arn=ROLE, token_file="/t/token", session_name="ns-app", region="eu-central-1")
SETTINGS = web_identity_settings(PROFILE)


def profiles(text: str) -> dict[str, dict[str, str]]:
    """The profiles as botocore sees them, without its nested values."""
    parser = configparser.RawConfigParser()
    parser.read_string(text.replace("\r\n", "\n").replace("\r", "\n"))
    found = build_profile_map({name: dict(parser.items(name)) for name in parser.sections()})["profiles"]
    return {name: dict(values) for name, values in found.items()}


def test_a_profile_of_its_own() -> None:
    assert profile_text("app", SETTINGS) == (
        "[profile app]\n"
        f"{MARK}\n"
        f"role_arn = {ROLE}\n"
        "web_identity_token_file = /t/token\n"
        "role_session_name = ns-app\n"
        "region = eu-central-1\n"
    )
    assert profile_text("default", {"region": "x-y-1"}).startswith("[default]\n")


def test_a_process_is_quoted_for_shlex() -> None:
    command = ["/opt/my tools/wif", "exchange", "aws", "--file", "/t/it's"]
    line = process_settings(command, region="eu-central-1")
    assert shlex.split(line["credential_process"]) == command
    assert profiles(profile_text("p", line))["p"] == line


def test_variables_name_both_regions_and_never_both_ways() -> None:
    web = web_identity_variables(PROFILE)
    assert web == {
        "AWS_ROLE_ARN": ROLE,
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/t/token",
        "AWS_ROLE_SESSION_NAME": "ns-app",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    by_profile = profile_variables(config_file="/c", name="app", region=None)
    assert by_profile == {"AWS_CONFIG_FILE": "/c", "AWS_PROFILE": "app"}
    assert not set(by_profile) & set(CONFLICTING_WITH_PROFILE)
    bare = WebIdentityProfile(role_arn=ROLE, token_file="/t")
    assert web_identity_variables(bare) == {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}
    assert web_identity_settings(bare) == {"role_arn": ROLE, "web_identity_token_file": "/t"}


def test_the_terraform_block() -> None:
    profile = WebIdentityProfile(
        role_arn=ROLE, token_file="/t", session_name="s1", region="eu-west-1", duration_seconds=900
    )
    assert terraform(profile) == (
        'provider "aws" {\n'
        '  region = "eu-west-1"\n'
        "\n"
        "  assume_role_with_web_identity {\n"
        f'    role_arn                = "{ROLE}"\n'
        '    session_name            = "s1"\n'
        '    duration                = "900s"\n'
        '    web_identity_token_file = "/t"\n'
        "  }\n"
        "}\n"
    )
    assert terraform(WebIdentityProfile(role_arn=ROLE, token_file="/t")).startswith('provider "aws" {\n  assume')


@pytest.mark.parametrize(
    "broken",
    [
        {"role_arn": "arn:aws:iam::1:role/app"},
        {"role_arn": ROLE + "\nregion = x"},
        {"role_arn": "arn:aws:iam::111122223333:user/app"},
        {"session_name": "x"},
        {"session_name": "a b"},
        {"region": "eu-central-1/"},
        {"region": "moon"},
        {"duration_seconds": 899},
        {"duration_seconds": 43201},
    ],
)
def test_a_value_that_aws_would_refuse_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        WebIdentityProfile(**{"role_arn": ROLE, "token_file": "/t", **broken})  # type: ignore[arg-type]  # one is wrong


@pytest.mark.parametrize("region", ["us-gov-west-1", "cn-north-1", "us-iso-east-1", "eusc-de-east-1", "ap-southeast-5"])
def test_regions_of_every_partition_pass(region: str) -> None:
    assert WebIdentityProfile(role_arn=ROLE, token_file="/t", region=region).region == region


@pytest.mark.parametrize("name", ["", "a b", "a]", "a\n", "a#b", "ä", "x" * 129])
def test_a_profile_name_that_a_header_cannot_carry_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        edit("", name, SETTINGS)


def test_a_value_that_a_reader_would_cut_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        edit("", "app", {"web_identity_token_file": "/t #1"})


FOREIGN = (
    "# mine\n[default]\nregion=us-east-1\n\n"
    "[profile app] \n# keep\nsource_profile = default\nrole_arn = x\n\n"
    "# for z\n[profile z]\na=1"
)


def test_a_foreign_profile_needs_force_and_keeps_its_comments() -> None:
    with pytest.raises(ConfigurationError) as caught:
        edit(FOREIGN, "app", SETTINGS)
    assert caught.value.code == "config-foreign"
    taken = edit(FOREIGN, "app", {"role_arn": ROLE, "region": "eu-west-1"}, force=True)
    assert taken == (
        "# mine\n[default]\nregion=us-east-1\n\n[profile app] \n"
        f"{MARK}\n# keep\nrole_arn = {ROLE}\nregion = eu-west-1\n\n# for z\n[profile z]\na=1"
    )


def test_our_own_profile_changes_its_way_and_keeps_what_others_added() -> None:
    mine = edit("", "app", SETTINGS).replace("region =", "output = json\n  # note\ns3 =\n  a = b\nREGION =")
    changed = edit(mine, "app", process_settings(["wif", "exchange"], region="us-west-2"))
    assert changed == (
        f"[profile app]\n{MARK}\noutput = json\n  # note\ns3 =\n  a = b\n"
        "region = us-west-2\ncredential_process = wif exchange\n"
    )


def test_a_quoted_or_strange_header_names_the_same_profile() -> None:
    for header in ('[profile "app"]', "[profile  app]", "[profiles app]"):
        with pytest.raises(ConfigurationError):
            edit(f"{header}\nregion = x\n", "app", SETTINGS)
    for other in ("[app]", "[profile app b]", '[profile "app]', "[services app]", "[DEFAULT]"):
        assert edit(f"{other}\nregion = x\n", "app", SETTINGS).startswith(f"{other}\nregion = x\n\n[profile app]\n")


def test_a_profile_twice_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="2 times"):
        edit('[profile app]\n[profile "app"]\n', "app", SETTINGS)


def test_an_indented_header_below_a_setting_is_a_value() -> None:
    text = "[profile other]\ns3 =\n  [profile app]\n"
    assert edit(text, "app", SETTINGS) == f"{text}\n{edit('', 'app', SETTINGS)}"


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_stay(end: str) -> None:
    text = f"[profile a]{end}x = 1"
    assert edit(text, "app", {"region": "r-x-1"}) == (
        f"[profile a]{end}x = 1{end}{end}[profile app]{end}{MARK}{end}region = r-x-1{end}"
    )


def test_a_header_without_a_line_end_gets_one() -> None:
    assert edit("[profile app]", "app", {"region": "r"}, force=True) == f"[profile app]\n{MARK}\nregion = r\n"
    assert edit(f"[profile app]\n{MARK}", "app", {"region": "r"}) == f"[profile app]\n{MARK}\nregion = r\n"
    assert (
        edit(f"[profile app]\n{MARK}\na = 1", "app", {"region": "r"}) == f"[profile app]\n{MARK}\na = 1\nregion = r\n"
    )


NAMES = st.sampled_from(["default", "app", "other", "third"])
INDENT = st.sampled_from(["", "", "", " ", "  ", "\t"])
END = st.sampled_from(["\n", "\n", "\n", "\r\n"])
PIECE = st.one_of(
    st.builds("{}# {}".format, INDENT, st.text("ab []=;#", max_size=8)),
    st.builds("{}; {}".format, INDENT, st.text("ab []=", max_size=8)),
    st.builds("{}".format, st.sampled_from(["", " ", "\t", MARK])),
    st.builds(
        "{}{} = {}".format, INDENT, st.sampled_from(["output", "Region", "role_arn", "s3", "x.y"]), st.text("a=:#")
    ),
    st.builds("{}{}=".format, INDENT, st.sampled_from(["s3", "credential_process"])),
    st.builds("    nested {}".format, st.text("ab=", max_size=5)),
)


@st.composite
def files(draw: st.DrawFn) -> str:
    """Config files of every shape that botocore reads, and some that it does not."""
    text = ""
    for name in draw(st.lists(NAMES, unique=True, max_size=4)):
        text += draw(INDENT) + ("[default]" if name == "default" else f"[profile {name}]") + draw(END)
        for piece in draw(st.lists(PIECE, max_size=6)):
            text += piece + draw(END)
    lead = "".join(f"# {line}\n" for line in draw(st.lists(st.text("ab", max_size=3), max_size=2)))
    return lead + (text.rstrip("\r\n") if draw(st.booleans()) else text)


@given(text=files(), name=NAMES, process=st.booleans(), force=st.booleans())
def test_an_edit_touches_one_profile_and_nothing_else(text: str, name: str, process: bool, force: bool) -> None:
    try:
        before = profiles(text)
    except configparser.Error:
        assume(False)
    settings = process_settings(["wif", "x y"]) if process else SETTINGS
    changed = _edit_or_code(text, name, settings, force)
    if changed == "config-foreign":
        assert name in before
        assert not force
        return
    after = profiles(changed)
    assert {key: value for key, value in after.items() if key != name} == {
        key: value for key, value in before.items() if key != name
    }
    assert {key: after[name][key] for key in settings} == settings
    assert not {"role_arn", "credential_process"} <= set(after[name])
    # Every comment, and every line of another profile, stands where it stood, byte for byte.
    left, _, right = _around(text, name)
    assert changed.startswith(left)
    assert changed.endswith(right)
    comments = [line for line in text.splitlines(keepends=True) if line.strip().startswith(("#", ";"))]
    kept = iter(changed.splitlines(keepends=True))
    assert all(any(_same(line, other) for other in kept) for line in comments)
    assert edit(changed, name, settings) == changed, "a second edit changes nothing"


def _edit_or_code(text: str, name: str, settings: dict[str, str], force: bool) -> str:
    try:
        return edit(text, name, settings, force=force)
    except ConfigurationError as error:
        return error.code


def _same(line: str, other: str) -> bool:
    return line == other or line == other.rstrip("\r\n")


def _around(text: str, name: str) -> tuple[str, str, str]:
    """What stands before a profile's header and from the next header on, found without the module's own parser."""
    lines = text.splitlines(keepends=True)
    parser = configparser.RawConfigParser()
    heads: list[int] = []
    for number in range(1, len(lines) + 1):
        parser = configparser.RawConfigParser()
        parser.read_string("".join(lines[:number]).replace("\r\n", "\n"))
        if len(parser.sections()) > len(heads):
            heads.append(number - 1)
    wanted = "default" if name == "default" else f"profile {name}"
    if wanted not in parser.sections():
        return text, "", ""
    at = parser.sections().index(wanted)
    stop = heads[at + 1] if at + 1 < len(heads) else len(lines)
    return "".join(lines[: heads[at]]), "".join(lines[heads[at] : stop]), "".join(lines[stop:])


@given(st.text(st.sampled_from("[]profile app=\n\r #;\t\x0b\x0c\x1c\x85\u2028")), st.booleans())
def test_any_text_keeps_every_byte_when_the_profile_is_new(text: str, force: bool) -> None:
    assert edit(text, "brand-new", SETTINGS, force=force).startswith(text)
