"""Every setting of the catalogue, one by one, and the parsers of their texts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service_kit.document_settings import document
from service_kit.errors import ConfigurationError
from service_kit.settings import GROUPS, SettingsGroup, catalogue, load
from service_kit.settings.catalogue import Form
from service_kit.settings.given import from_text, parse_switch, split_items
from service_kit.settings.types import HostPort, mask_url

NAMES = list(catalogue())

# An acceptable value of each setting, as TOML and as the text of a variable, where the form alone does not tell it.
TEXTS = {
    "redis_tls_min": "1.3",
    "allowed_origins": "https://a.example",
    "trusted_proxies": "10.0.0.0/8",
    "signing_algs": "EdDSA",
    "mail_transports": "smtp",
    "mail_transport_limits": "sendmail:5",
    "ses_region": "eu-central-1",
    "mail_webhook_url": "https://a.example/mails",
    "mail_webhook_secret": "QUFB" * 10,
    "key_encryption_key": "k" * 40,
    "suppression_key": "k" * 40,
    "postmark_webhook_secret": "k" * 40,
    "uncounted_emails": "a@b.example",
    "allowed_domains": "a.example",
    "public_url": "https://a.example",
    "redis_url": "redis://h",
    "listen_ip": "::1",
    "internal_ip": "::1",
    "log_level": "debug",
    "log_format": "json",
    "from_address": "a@b.example",
    "verify_with_resolver": "9.9.9.9:53",
    "smtp_server": "mail:25",
    "smtp_security": "tls",
    "rsa_modulus_bits": "4096",
}
REQUIRED = {"redis_url": "redis://h", "public_url": "https://a.example", "from_address": "a@b.example"}
ALWAYS = {**REQUIRED, "sendmail_command": "/usr/sbin/sendmail"}
PARTNERS = ("smtp_", "redis_client", "mailgun_", "dkim_", "ses_", "mail_webhook_", "mail_transports", "_token")


def group_of(name: str) -> type[SettingsGroup]:
    return next(group for group in GROUPS if name in group.model_fields)


def good_text(name: str) -> str:
    setting = catalogue()[name]
    if name.endswith(("_file", "_cert", "_client_key")):
        return __file__
    return TEXTS.get(name) or {Form.NUMBER: "7", Form.SWITCH: "true"}.get(
        setting.form, "text.example" if "api" not in name else "https://a.example"
    )


def as_toml(name: str, text: str) -> str:
    setting = catalogue()[name]
    if setting.form is Form.TABLE:
        return f"{name} = {{}}"
    if setting.form is Form.LIST:
        return f'{name} = ["{text}"]'
    return f"{name} = {text}" if setting.form in (Form.NUMBER, Form.SWITCH) else f'{name} = "{text}"'


def load_one(name: str, environ: dict[str, str], file: Path | None = None) -> tuple[object, str]:
    """The value and source of one setting; what lacks its partners is no matter here."""
    fields = group_of(name)
    basis = {
        f"BROKER_{key.upper()}": text for key, text in ALWAYS.items() if key != name and key in fields.model_fields
    }
    loaded = load(fields, service="any", config_path=file, environ={**basis, **environ})
    return getattr(loaded.settings, name), loaded.sources[name]


def partners(name: str) -> dict[str, str]:
    sets = (
        ("smtp_username", "smtp_password"),
        ("smtp_client_cert", "smtp_client_key"),
        ("redis_client_cert", "redis_client_key"),
        ("mailgun_token", "mailgun_domain"),
        ("dkim_domain", "dkim_selector", "dkim_key_file"),
        ("ses_access_key_id", "ses_secret_access_key", "ses_region"),
        ("mail_webhook_url", "mail_webhook_secret"),
    )
    beside = {other for one in sets if name in one for other in one if other != name}
    environ = {f"BROKER_{other.upper()}": good_text(other) for other in beside}
    if group_of(name).__name__ == "MailSettings" and name != "mail_transports":
        environ["BROKER_MAIL_TRANSPORTS"] = "sendmail"
    if name == "mail_transports":
        environ["BROKER_SMTP_SERVER"] = "mail"
    return environ


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_taken_from_file_and_environment_alike(name: str, tmp_path: Path) -> None:
    text = good_text(name)
    file = tmp_path / "broker.toml"
    file.write_text(as_toml(name, text))
    from_file, source = load_one(name, partners(name), file)
    assert source == f"file {file}"
    if catalogue()[name].form is Form.TABLE:
        return
    variable = catalogue()[name].variable
    from_variable, source = load_one(name, {**partners(name), variable: text})
    assert source == f"environment {variable}"
    assert from_variable == from_file
    (tmp_path / "value").write_text(text + "\n")
    from_value_file, source = load_one(name, {**partners(name), f"{variable}_FILE": str(tmp_path / "value")})
    assert from_value_file == from_file


@pytest.mark.parametrize("name", NAMES)
def test_value_of_the_wrong_type_names_the_setting_and_its_file(name: str, tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text(f"{name} = 1979-05-27")
    with pytest.raises(ConfigurationError) as caught:
        load_one(name, partners(name), file)
    problem = next(problem for problem in caught.value.problems if problem.setting == name)
    assert problem.source == f"file {file}"
    assert problem.message.endswith(catalogue()[name].advice)


@pytest.mark.parametrize("name", [name for name in NAMES if catalogue()[name].form in (Form.NUMBER, Form.SWITCH)])
@pytest.mark.parametrize("text", ["", "1.5", "ten", "1e3", "-2", "99999999999999999999", "٣"])
def test_bad_number_or_switch_names_the_setting_and_its_variable(name: str, text: str) -> None:
    variable = catalogue()[name].variable
    with pytest.raises(ConfigurationError, match=rf"{name} \(environment {variable}\)"):
        load_one(name, {variable: text})


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_explained(name: str) -> None:
    setting = catalogue()[name]
    assert setting.help
    assert setting.advice
    assert setting.readers


def test_no_setting_is_declared_twice() -> None:
    names = [name for group in GROUPS for name in group.model_fields]
    assert len(names) == len(set(names))


def test_documentation_is_current() -> None:
    page = Path(__file__).parents[3] / "docs" / "configuration.md"
    assert page.read_text() == document(), "run: python -m service_kit.document_settings > docs/configuration.md"


WORD = st.text(st.characters(categories=["L", "N", "P"], exclude_characters=","), min_size=1)


@given(st.lists(WORD), st.sampled_from([",", " ,  ", ",\n"]))
def test_list_comes_apart_as_it_was_joined(items: list[str], separator: str) -> None:
    text = separator.join(items)
    assert split_items(text, words=True) == items
    assert split_items(text, words=False) == items


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1)), st.text(" \t\n,", min_size=1))
def test_words_come_apart_at_any_white_space(items: list[str], separator: str) -> None:
    assert split_items(separator.join(items), words=True) == items


@given(st.text())
def test_switch_is_true_or_false_and_nothing_else(text: str) -> None:
    try:
        value = parse_switch(text)
    except ValueError:
        assert text.strip().lower() not in ("true", "false")
    else:
        assert text.strip().lower() == str(value).lower()


@given(st.integers(-(10**17), 10**17))
def test_whole_numbers_are_read(number: int) -> None:
    assert from_text(catalogue()["token_ttl"], f" {number} ") == number


@given(st.text())
@example("0\x1f")
def test_any_text_is_a_number_or_refused(text: str) -> None:
    try:
        assert from_text(catalogue()["token_ttl"], text) == int(text)
    except ValueError as error:
        assert "whole number" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "host_port"),
    [
        ("mail", HostPort("mail", 25)),
        ("mail:587", HostPort("mail", 587)),
        ("[::1]:587", HostPort("::1", 587)),
        ("::1", HostPort("::1", 25)),
        ("[::1]", HostPort("::1", 25)),
    ],
)
def test_server_is_a_host_with_or_without_port(text: str, host_port: HostPort) -> None:
    value, _ = load_one("smtp_server", {"BROKER_SMTP_SERVER": text, "BROKER_MAIL_TRANSPORTS": "smtp"})
    assert value == (host_port,)


@pytest.mark.parametrize("text", ["mail:", "mail:0", "mail:65536", "a:b:c", "u:p@mail", "mail/x", "[::1"])
def test_server_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="smtp_server"):
        load_one("smtp_server", {"BROKER_SMTP_SERVER": text, "BROKER_MAIL_TRANSPORTS": "smtp"})


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://u:pw@h:1/0", "redis://u:***@h:1/0"),
        ("redis://:pw@h", "redis://:***@h"),
        ("redis://u:p@w@h", "redis://u:***@h"),
        ("redis://u:p/w@h", "redis://***"),
        ("redis://h?password=pw", "redis://h"),
        ("redis://u:pw@h/0?password=pw", "redis://u:***@h/0"),
        ("u:pw@h", "***"),
    ],
)
def test_password_in_a_url_is_masked(url: str, masked: str) -> None:
    assert mask_url(url) == masked
