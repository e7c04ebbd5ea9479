"""Sources, precedence, errors and secrecy of settings."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from service_kit.errors import ConfigurationError
from service_kit.settings import (
    AUTH_API,
    DEFAULT,
    DEFAULT_LIMITS,
    KEY_ROTATOR,
    LAUNCHER,
    MAILER,
    CommonSettings,
    HostPort,
    HttpSettings,
    KeyMakingSettings,
    KeySettings,
    Loaded,
    LoginSettings,
    MailSettings,
    QueueSettings,
    SettingsGroup,
    StoreSettings,
    TransportLimit,
    describe,
    load,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from service_kit.settings.groups import Findings

    Write = Callable[..., Path]


class ApiSettings(CommonSettings, QueueSettings, HttpSettings, LoginSettings, KeySettings):
    pass


class MailerSettings(CommonSettings, QueueSettings, MailSettings):
    pass


class RotatorSettings(CommonSettings, KeySettings, KeyMakingSettings):
    pass


REDIS = {"BROKER_REDIS_URL": "redis://localhost"}
API = {**REDIS, "BROKER_PUBLIC_URL": "https://login.example.com"}
MAIL = {**REDIS, "BROKER_FROM_ADDRESS": "login@example.com", "BROKER_SMTP_SERVER": "mail:587"}


def api(environ: dict[str, str] | None = None, file: Path | None = None) -> Loaded[ApiSettings]:
    return load(ApiSettings, service=AUTH_API, config_path=file, environ={**API, **(environ or {})})


def mailer(environ: dict[str, str] | None = None, file: Path | None = None) -> Loaded[MailerSettings]:
    return load(MailerSettings, service=MAILER, config_path=file, environ={**MAIL, **(environ or {})})


def problems_of(
    settings_class: type[SettingsGroup], environ: dict[str, str], file: Path | None = None
) -> dict[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        load(settings_class, service="any", config_path=file, environ=environ)
    return {problem.setting: str(problem) for problem in caught.value.problems}


def test_list_of_which_every_entry_is_wrong_is_not_called_empty() -> None:
    told = problems_of(ApiSettings, {**API, "BROKER_SIGNING_ALGS": "RS257"})["signing_algs"]
    assert told.endswith("entry 1 is not 'RS256' or 'EdDSA'. Write [\"RS256\"], [\"EdDSA\"] or both")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str, name: str = "broker.toml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_defaults_are_those_of_the_contract() -> None:
    settings = api().settings
    assert (settings.listen_ip, settings.listen_port) == ("127.0.0.1", 3333)
    assert settings.trusted_proxies == (ip_network("127.0.0.0/8"), ip_network("::1"))
    assert settings.limits == DEFAULT_LIMITS
    assert settings.allowed_origins is None
    assert (settings.static_ttl, settings.discovery_ttl, settings.keys_ttl) == (604800, 604800, 86400)
    assert (settings.token_ttl, settings.session_ttl, settings.auth_code_ttl, settings.cache_ttl) == (
        600,
        900,
        600,
        3600,
    )
    assert settings.signing_algs == ("RS256",)
    assert settings.internal_port == 3391
    assert mailer().settings.internal_port == 3392


def test_each_later_source_wins_and_is_named(write: Write) -> None:
    file = write('listen_port = 1\ntoken_ttl = 7\ncsp = "x"\nredis_url = "redis://file"\n')
    loaded = load(
        ApiSettings,
        service=AUTH_API,
        config_path=file,
        environ={
            "BROKER_PUBLIC_URL": "https://a.example",
            "REDIS_URL": "redis://platform",
            "PORT": "2",
            "BROKER_CSP": "y",
        },
    )
    settings, sources = loaded.settings, loaded.sources
    assert (settings.listen_port, settings.listen_ip, settings.csp, settings.token_ttl) == (2, "0.0.0.0", "y", 7)
    assert settings.redis_url.get_secret_value() == "redis://platform"
    assert sources["listen_port"] == sources["listen_ip"] == "environment PORT"
    assert sources["token_ttl"] == f"file {file}"
    assert sources["csp"] == "environment BROKER_CSP"
    assert sources["keys_ttl"] == DEFAULT
    assert loaded.warnings == ()


def test_broker_variables_win_over_platform_variables() -> None:
    environ = {"PORT": "80", "BROKER_LISTEN_PORT": "81", "HEROKU_APP_NAME": "app"}
    assert api(environ).settings.listen_port == 81
    assert load(ApiSettings, service=AUTH_API, environ={**REDIS, **environ}).settings.public_url == (
        "https://app.herokuapp.com"
    )


@pytest.mark.parametrize("port", ["", "x", "-1", "0", "70000", "²", "9" * 5000])
def test_platform_port_that_is_no_port_is_ignored(port: str) -> None:
    assert api({"PORT": port}).settings.listen_port == 3333


def test_first_of_the_redis_variables_is_taken() -> None:
    environ = {
        "OPENREDIS_URL": "redis://5",
        "REDIS_URL": "redis://4",
        "REDISGREEN_URL": "redis://2",
        "REDISTOGO_URL": "",
    }
    environ["BROKER_PUBLIC_URL"] = "https://a.example"
    loaded = load(ApiSettings, service=AUTH_API, environ=environ)
    assert loaded.settings.redis_url.get_secret_value() == "redis://2"
    assert loaded.sources["redis_url"] == "environment REDISGREEN_URL"


def test_sendgrid_variables_make_an_smtp_server_only_together() -> None:
    settings = mailer({"SENDGRID_USERNAME": "u", "SENDGRID_PASSWORD": "p"}).settings
    assert settings.smtp_server == (HostPort("mail", 587),)
    del (environ := dict(MAIL))["BROKER_SMTP_SERVER"]
    both = load(MailerSettings, service=MAILER, environ={**environ, "SENDGRID_USERNAME": "u", "SENDGRID_PASSWORD": "p"})
    assert both.settings.smtp_server == (HostPort("smtp.sendgrid.net", 587),)
    assert both.settings.smtp_username == "u"
    assert both.settings.transports == ("smtp",)
    assert "mail_transports" in problems_of(MailerSettings, {**environ, "SENDGRID_USERNAME": "u"})


def test_old_tables_and_names_are_read_with_a_warning(write: Write) -> None:
    file = write("""
        limit_per_email = "5/min"
        [server]
        listen_ip = "::1"
        listen_port = 4444
        public_url = "https://old.example"
        allowed_origins = ["https://rp.example"]
        [headers]
        static_ttl = 1
        discovery_ttl = 2
        keys_ttl = 3
        [crypto]
        token_ttl = 4
        keyfiles = ["a.pem"]
        [redis]
        url = "redis://old"
        session_ttl = 5
        cache_ttl = 6
        [google]
        client_id = "g"
        """)
    loaded = load(ApiSettings, service=AUTH_API, config_path=file, environ={})
    settings = loaded.settings
    assert (settings.listen_ip, settings.listen_port, settings.public_url) == ("::1", 4444, "https://old.example")
    assert settings.allowed_origins == ("https://rp.example",)
    assert (settings.static_ttl, settings.discovery_ttl, settings.keys_ttl, settings.token_ttl) == (1, 2, 3, 4)
    assert (settings.session_ttl, settings.cache_ttl, settings.google_client_id) == (5, 6, "g")
    assert settings.limits == ("email:5/min",)
    assert settings.redis_url.get_secret_value() == "redis://old"
    assert len(loaded.warnings) == 14
    assert loaded.sources["listen_ip"] == f"file {file}, [server]"


def test_old_mail_table_is_read(write: Write) -> None:
    file = write("""
        [smtp]
        from_name = "N"
        from_address = "a@b.example"
        server = "mail.example"
        username = "u"
        password = "p"
        """)
    settings = load(MailerSettings, service=MAILER, config_path=file, environ=REDIS).settings
    assert (settings.from_name, settings.from_address, settings.smtp_username) == ("N", "a@b.example", "u")
    assert settings.smtp_server == (HostPort("mail.example", 25),)


@pytest.mark.parametrize("value", ['["one:587", "two"]', '"one:587, two"', '"one:587 two"'])
def test_several_mail_servers_are_a_list_or_one_text(write: Write, value: str) -> None:
    if value.startswith("["):
        file = write(f'smtp_server = {value}\nfrom_address = "a@b.example"')
        settings = load(MailerSettings, service=MAILER, config_path=file, environ=REDIS).settings
    else:
        settings = mailer({"BROKER_SMTP_SERVER": value.strip('"')}).settings
    assert settings.smtp_server == (HostPort("one", 587), HostPort("two", 25))
    assert settings.transports == ("smtp",)


def test_bounds_of_transports_are_read_and_those_that_bound_nothing_are_told() -> None:
    settings = mailer({"BROKER_MAIL_TRANSPORT_LIMITS": "smtp:5, smtp:300/5min"}).settings
    assert settings.mail_transport_limits == (TransportLimit("smtp", 5, 0), TransportLimit("smtp", 300, 300))
    for wrong, told in {
        "smtp": "is not a transport and its bound", "smtp:0": "is not a transport", "smtp:5/0s": "is not a transport",
        "smtp:5/00s": "is not a transport",
        "smtp:5/week": "is not a transport", "smpt:5": "names no transport", "ses:5": "by which no mail goes",
        "smtp:5 smtp:6": "twice", "smtp:1/s smtp:1/m": "twice",
    }.items():  # fmt: skip
        assert (
            told
            in problems_of(MailerSettings, {**MAIL, "BROKER_MAIL_TRANSPORT_LIMITS": wrong})["mail_transport_limits"]
        )


def test_password_that_can_be_read_on_the_way_is_cautioned_of() -> None:
    credentials = {"BROKER_SMTP_USERNAME": "u", "BROKER_SMTP_PASSWORD": "p"}
    assert "opportunistic" in mailer(credentials).warnings[0]
    assert not mailer({**credentials, "BROKER_SMTP_SECURITY": "starttls"}).warnings


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("ses_region", {"SES_ACCESS_KEY_ID": "a", "SES_SECRET_ACCESS_KEY": "s", "SES_REGION": "eu central/1"}),
        ("ses_access_key_id", {"SES_ACCESS_KEY_ID": "a", "SES_SECRET_ACCESS_KEY": "s"}),
        ("mail_webhook_url", {"MAIL_WEBHOOK_URL": "https://x.example"}),
        ("mail_webhook_secret", {"MAIL_WEBHOOK_URL": "https://x.example", "MAIL_WEBHOOK_SECRET": "too short"}),
    ],
)
def test_transport_that_lacks_something_is_told(name: str, given: dict[str, str]) -> None:
    environ = {**MAIL, **{f"BROKER_{variable}": value for variable, value in given.items()}}
    assert name in problems_of(MailerSettings, environ)


def test_old_variables_are_read_with_a_warning_and_yield_to_todays() -> None:
    loaded = api({"BROKER_IP": "::1", "BROKER_PORT": "1", "BROKER_LISTEN_PORT": "2", "BROKER_LIMIT_PER_EMAIL": "5/min"})
    assert (loaded.settings.listen_ip, loaded.settings.listen_port) == ("::1", 2)
    assert loaded.settings.limits == ("email:5/min",)
    assert len(loaded.warnings) == 3


def test_key_files_of_old_and_new_place_add_up_and_the_variable_replaces_them(write: Write) -> None:
    file = write('keyfiles = ["b.pem"]\n[crypto]\nkeyfiles = ["a.pem"]\n')
    assert api(file=file).settings.keyfiles == ("a.pem", "b.pem")
    assert api({"BROKER_KEYFILES": "c d.pem,e.pem"}, file).settings.keyfiles == ("c d.pem", "e.pem")


def test_todays_name_wins_over_the_old_one(write: Write) -> None:
    loaded = api(file=write("token_ttl = 1\n[crypto]\ntoken_ttl = 2\n"))
    assert loaded.settings.token_ttl == 1
    assert any("set twice" in warning for warning in loaded.warnings)


def test_unknown_names_are_refused_with_the_nearest_known_one(write: Write) -> None:
    file = write('tokn_ttl = 1\nsmtp_pasword = "hunter2"\nxyzzy = 1\n[server]\nlisten_prt = 1\n')
    problems = problems_of(ApiSettings, API, file)
    assert problems.keys() == {"tokn_ttl", "smtp_pasword", "xyzzy", "[server] listen_prt"}
    assert "did you mean token_ttl?" in problems["tokn_ttl"]
    assert "did you mean listen_port?" in problems["[server] listen_prt"]
    assert "did you mean" not in problems["xyzzy"]
    assert "hunter2" not in str(problems)


def test_names_that_other_programs_have_are_refused_with_what_to_write(write: Write) -> None:
    file = write('smtp_port = 25\nredis_host = "x"\nport = 1\n[smtp]\nport = 25\n[redis]\npassword = "hunter2"\n')
    problems = problems_of(ApiSettings, API, file)
    assert 'smtp_server = "host:port"' in problems["smtp_port"]
    assert 'smtp_server = "host:port"' in problems["[smtp] port"]
    assert "redis_url" in problems["redis_host"]
    assert "redis_url" in problems["[redis] password"]
    assert "write listen_port" in problems["port"]
    assert "hunter2" not in str(problems)
    warnings = api({"BROKER_SMTP_PORT": "25"}).warnings
    assert any("BROKER_SMTP_PORT" in warning and "smtp_server" in warning for warning in warnings)


def test_unknown_variables_are_warned_of() -> None:
    warnings = api({"BROKER_TOKN_TTL": "1", "BROKER_DOMAIN_OVERRIDES": "{}"}).warnings
    assert any("BROKER_TOKN_TTL" in warning and "BROKER_TOKEN_TTL?" in warning for warning in warnings)
    assert any("configuration file only" in warning for warning in warnings)


def test_misspelled_variable_is_told_beside_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match="did you mean BROKER_PUBLIC_URL"):
        load(ApiSettings, service=AUTH_API, environ={**REDIS, "BROKER_PUBLIC_URI": "https://a.example"})


def test_settings_of_another_service_are_neither_checked_nor_read(write: Write) -> None:
    file = write('public_url = "nonsense"\nsmtp_password = 5\n')
    environ = {**REDIS, "BROKER_SMTP_PASSWORD_FILE": "/nowhere"}
    loaded = load(RotatorSettings, service=KEY_ROTATOR, config_path=file, environ=environ)
    assert loaded.settings.rsa_modulus_bits == 2048
    assert loaded.sources["public_url"] == f"file {file}"


def test_all_problems_are_told_together(write: Write) -> None:
    file = write("keys_ttl = 'x'\nnonsense = 1\n")
    problems = problems_of(ApiSettings, {"BROKER_LISTEN_PORT": "70000", "BROKER_VERIFY_PUBLIC_IP": "yes"}, file)
    assert problems.keys() == {"keys_ttl", "nonsense", "listen_port", "verify_public_ip", "public_url", "redis_url"}
    assert problems["listen_port"] == (
        "listen_port (environment BROKER_LISTEN_PORT): is too large. Write a port from 1 to 65535"
    )


def test_sqlite_is_refused_with_both_alternatives(write: Write) -> None:
    for problem in (
        problems_of(ApiSettings, API, write('sqlite_db = "x.db"'))["sqlite_db"],
        problems_of(ApiSettings, {**API, "BROKER_SQLITE_DB": "x.db"})["sqlite_db"],
    ):
        assert "redis_url" in problem
        assert "memory_storage" in problem


@pytest.mark.parametrize(
    "url",
    [
        "",
        "login.example.com",
        "https://a.example/",
        "https://a.example/x",
        "https://a.example?x",
        "https://A.example",
        "https://u:hunter2@a.example",
        "ftp://a.example",
        "https://a.example:443",
        "https://a.example:x",
        "https://a b",
        "https://bücher.example",
    ],
)
def test_public_url_that_is_no_origin_is_refused(url: str) -> None:
    problem = problems_of(ApiSettings, {**REDIS, "BROKER_PUBLIC_URL": url})["public_url"]
    assert "hunter2" not in problem


def test_public_url_with_a_slash_is_refused_with_what_to_write() -> None:
    problem = problems_of(ApiSettings, {**REDIS, "BROKER_PUBLIC_URL": "https://a.example/"})["public_url"]
    assert "you may mean https://a.example." in problem


def test_plain_http_is_warned_of_unless_it_stays_on_this_machine() -> None:
    assert api({"BROKER_PUBLIC_URL": "http://localhost:3333"}).warnings == ()
    assert len(api({"BROKER_PUBLIC_URL": "http://a.example"}).warnings) == 1


def test_list_from_files_holds_their_lines_in_place(write: Write) -> None:
    domains = write("\n# comment\n  a.example  \nB.example\r\n", "domains")
    assert api({"BROKER_BLOCKED_DOMAINS": f"x.example,@{domains}"}).settings.blocked_domains == (
        "x.example",
        "a.example",
        "b.example",
    )
    file = write(f'allowed_domains = ["@{domains}"]')
    assert api(file=file).settings.allowed_domains == ("a.example", "b.example")
    assert "cannot read" in problems_of(ApiSettings, {**API, "BROKER_ALLOWED_DOMAINS": "@/nowhere"})["allowed_domains"]


def test_empty_list_of_origins_is_not_the_same_as_none() -> None:
    assert api({"BROKER_ALLOWED_ORIGINS": ""}).settings.allowed_origins == ()
    assert api().settings.allowed_origins is None


def test_empty_text_unsets() -> None:
    settings = api({"BROKER_VERIFY_WITH_RESOLVER": "", "BROKER_CSP": ""}).settings
    assert settings.verify_with_resolver is None
    assert settings.csp is None


def test_value_from_a_file_loses_its_last_line_end(write: Write) -> None:
    secret = write("hunter2\n", "secret")
    loaded = mailer({"BROKER_SMTP_USERNAME": "u", "BROKER_SMTP_PASSWORD_FILE": str(secret)})
    assert loaded.settings.smtp_password is not None
    assert loaded.settings.smtp_password.get_secret_value() == "hunter2"
    assert loaded.sources["smtp_password"] == "file named by BROKER_SMTP_PASSWORD_FILE"


def test_value_and_file_for_it_are_refused_together() -> None:
    environ = {**MAIL, "BROKER_FROM_NAME": "x", "BROKER_FROM_NAME_FILE": "y"}
    assert "keep one of the two" in problems_of(MailerSettings, environ)["from_name"]


def test_proxies_are_addresses_or_networks_whatever_their_host_bits() -> None:
    environ = {"BROKER_TRUSTED_PROXIES": "10.1.2.3/8, ::ffff:192.0.2.0/120 ::1"}
    assert api(environ).settings.trusted_proxies == tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.0/24", "::1")))
    for text in ("proxy.example", "10.0.0.0/33", "10.0.0.1:80", "\ud800"):
        problem = problems_of(ApiSettings, {**API, "BROKER_TRUSTED_PROXIES": text})["trusted_proxies"]
        assert "not an IP address or network" in problem


class Picky(HttpSettings):
    def unusable(self) -> Findings:
        yield from super().unusable()
        if self.csp == "nonsense":
            yield "csp", "is no policy"


def test_value_that_only_its_service_finds_unusable_is_told_with_its_source() -> None:
    environ = {"BROKER_PUBLIC_URL": "http://a.example", "BROKER_CSP": "nonsense"}
    with pytest.raises(ConfigurationError) as caught:
        load(Picky, service=AUTH_API, environ=environ)
    assert "csp (environment BROKER_CSP): is no policy" in str(caught.value)
    assert "is plain http" in str(caught.value)  # the warnings come along
    assert load(Picky, service=AUTH_API, environ={**environ, "BROKER_CSP": "x"}).settings.csp == "x"


@pytest.mark.parametrize(
    ("environ", "setting"),
    [
        ({"BROKER_SMTP_USERNAME": "u"}, "smtp_username"),
        ({"BROKER_SMTP_PASSWORD": "hunter2"}, "smtp_password"),
        ({"BROKER_MAILGUN_TOKEN": "hunter2", "BROKER_MAIL_TRANSPORTS": "mailgun"}, "mailgun_token"),
        ({"BROKER_DKIM_DOMAIN": "a.example", "BROKER_DKIM_SELECTOR": "s"}, "dkim_domain"),
        ({"BROKER_POSTMARK_TOKEN": "hunter2"}, "mail_transports"),
        ({"BROKER_MAIL_TRANSPORTS": "smtp,sendgrid"}, "mail_transports"),
        ({"BROKER_REDIS_CLIENT_KEY": __file__}, "redis_client_key"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(environ: dict[str, str], setting: str) -> None:
    problems = problems_of(MailerSettings, {**MAIL, **environ})
    assert setting in problems
    assert "hunter2" not in str(problems)


def test_replicas_may_not_take_as_long_as_redis_itself() -> None:
    slow = {**MAIL, "BROKER_REDIS_WAIT_TIMEOUT": "5"}
    assert mailer(slow).settings.redis_wait_timeout == 5  # nobody waits for replicas
    waiting = {**slow, "BROKER_REDIS_WAIT_REPLICAS": "1"}
    assert "shorter than redis_timeout" in problems_of(MailerSettings, waiting)["redis_wait_timeout"]
    assert mailer({**waiting, "BROKER_REDIS_TIMEOUT": "6"}).settings.redis_timeout == 6


def test_transports_keep_the_order_that_was_asked_for() -> None:
    environ = {"BROKER_POSTMARK_TOKEN": "t", "BROKER_MAIL_TRANSPORTS": "postmark smtp"}
    assert mailer(environ).settings.transports == ("postmark", "smtp")


def test_settings_built_in_code_are_checked_as_well() -> None:
    with pytest.raises(ValueError, match="smtp_username needs smtp_password"):
        MailerSettings.model_validate(
            {"redis_url": "redis://a", "from_address": "a@b", "smtp_server": "m", "smtp_username": "u"}
        )


def test_domain_overrides_come_from_the_file(write: Write) -> None:
    file = write("""
        [domain_overrides]
        "A.example" = [{ rel = "https://portier.io/specs/auth/1.0/idp", href = "https://idp.example" }]
        "b.example" = []
        """)
    overrides = api(file=file).settings.domain_overrides
    assert overrides["a.example"][0].href == "https://idp.example"
    assert overrides["b.example"] == ()
    bad = write('domain_overrides = { "a.example" = [{ rel = "x" }] }')
    assert "domain_overrides" in problems_of(ApiSettings, API, bad)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("localhost:6379", "redis://localhost:6379"),
        ("http://h:1", "redis://h:1"),
        ("rediss://u:p@h/0", "rediss://u:p@h/0"),
        ("redis+sentinel://a,b/mymaster", "redis+sentinel://a,b/mymaster"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_redis_url_is_taken_in_all_its_forms(text: str, url: str) -> None:
    assert api({"BROKER_REDIS_URL": text}).settings.redis_url.get_secret_value() == url


def test_launcher_learns_whether_a_redis_is_named() -> None:
    loaded = load(StoreSettings, service=LAUNCHER, environ={"REDIS_URL": "redis://x", "BROKER_MEMORY_STORAGE": "true"})
    assert loaded.settings.memory_storage is True
    assert "redis_url" in loaded.sources
    assert "redis_url" not in load(StoreSettings, service=LAUNCHER, environ={}).sources


@pytest.mark.parametrize(
    ("text", "words"), [("a = ", "not valid TOML"), (None, "cannot read"), ("\x00", "not valid TOML")]
)
def test_unusable_file_is_told_and_nothing_that_may_stand_in_it(
    write: Write, tmp_path: Path, text: str | None, words: str
) -> None:
    file = tmp_path / "nowhere.toml" if text is None else write(text)
    told = problems_of(ApiSettings, {}, file)
    assert told.keys() == {"the file"}
    assert words in told["the file"]


SECRET = "hunter2-and-thirty-two-characters-more"


def test_no_secret_shows_in_the_description_the_repr_or_an_error(write: Write) -> None:
    environ = {
        "BROKER_REDIS_URL": f"redis://user:{SECRET}@h:1/0",
        "BROKER_SMTP_USERNAME": "u",
        "BROKER_SMTP_PASSWORD": SECRET,
        "BROKER_POSTMARK_TOKEN": SECRET,
        "BROKER_MAILGUN_TOKEN": SECRET,
        "BROKER_MAILGUN_DOMAIN": "m.example",
        "BROKER_SENDGRID_TOKEN": SECRET,
        "BROKER_MAIL_TRANSPORTS": "smtp",
        "BROKER_KEYTEXT": SECRET,
        "BROKER_KEY_ENCRYPTION_KEY": f"{SECRET},{SECRET}",
    }
    for loaded in (api(environ), mailer(environ)):
        told = describe(loaded) + repr(loaded) + str(loaded.settings) + repr(loaded.settings)
        assert SECRET not in told
        assert "redis://user:***@h:1/0" in told
    wrong = dict.fromkeys(environ, f"\n{SECRET},") | {"BROKER_REDIS_URL": f"ftp://u:{SECRET}@h"}
    file = write(f'redis_url = ["{SECRET}"]\nsmtp_password = ["{SECRET}"]\nkey_encryption_key = "{SECRET}"\n')
    for settings_class in (ApiSettings, MailerSettings):
        assert SECRET not in str(problems_of(settings_class, wrong))
        assert SECRET not in str(problems_of(settings_class, {}, file))


@pytest.mark.parametrize("written", [f'"{"k" * 40}"', f'["{"k" * 40}"]'])
def test_one_sealing_key_may_stand_in_the_file_with_or_without_a_list(
    write: Callable[[str], Path], written: str
) -> None:
    file = write(f"key_encryption_key = {written}\n")
    assert [key.get_secret_value() for key in api({}, file).settings.key_encryption_key] == ["k" * 40]


def test_description_is_a_table_of_value_and_source() -> None:
    lines = describe(api({"BROKER_CSP": "x", "BROKER_ALLOWED_ORIGINS": ""})).splitlines()
    assert [line.split() for line in lines if line.startswith("csp")] == [["csp", "x", "environment", "BROKER_CSP"]]
    assert len(lines) == len(ApiSettings.model_fields)


def test_class_with_a_setting_of_its_own_is_refused() -> None:
    class Stray(CommonSettings):
        stray: int = 1

    with pytest.raises(TypeError, match="declared in a group"):
        load(Stray, service=MAILER, environ=REDIS)
