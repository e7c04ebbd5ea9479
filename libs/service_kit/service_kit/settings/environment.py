"""What the environment says: the variables of hosting platforms, and BROKER_*."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from service_kit.settings.catalogue import Form, catalogue
from service_kit.settings.given import Findings, Given, Kind, nearest
from service_kit.settings.toml_file import SQLITE, limits_of_old

if TYPE_CHECKING:
    from collections.abc import Mapping

REDIS_VARIABLES = ("REDISTOGO_URL", "REDISGREEN_URL", "REDISCLOUD_URL", "REDIS_URL", "OPENREDIS_URL")
OLD_VARIABLES: Mapping[str, str] = MappingProxyType({"BROKER_IP": "listen_ip", "BROKER_PORT": "listen_port"})
OLD_LIMIT = "BROKER_LIMIT_PER_EMAIL"


def read_platform(environ: Mapping[str, str]) -> dict[str, Given]:
    """What a hosting platform set for us; empty variables count as unset."""
    given: dict[str, Given] = {}

    def take(variable: str, **values: object) -> None:
        given.update({name: Given(value, f"environment {variable}") for name, value in values.items()})

    port = environ.get("PORT", "")
    if port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65536:  # anything else was always ignored
        take("PORT", listen_port=int(port), listen_ip="0.0.0.0")  # noqa: S104 - the platform's router is outside
    if app := environ.get("HEROKU_APP_NAME"):
        take("HEROKU_APP_NAME", public_url=f"https://{app}.herokuapp.com")
    if variable := next((name for name in REDIS_VARIABLES if environ.get(name)), None):
        take(variable, redis_url=environ[variable])
    user, password = environ.get("SENDGRID_USERNAME"), environ.get("SENDGRID_PASSWORD")
    if user and password:
        take("SENDGRID_USERNAME", smtp_server="smtp.sendgrid.net:587", smtp_username=user)
        take("SENDGRID_PASSWORD", smtp_password=password)
    return given


def read_variables(environ: Mapping[str, str], findings: Findings) -> dict[str, Given]:
    """What BROKER_* says, BROKER_*_FILE included."""
    given = _old_variables(environ, findings)
    known = set(OLD_VARIABLES) | {OLD_LIMIT}
    for setting in catalogue().values():
        variable, file_variable = setting.variable, f"{setting.variable}_FILE"
        if setting.form is Form.TABLE:
            continue
        known |= {variable, file_variable}
        if variable in environ and file_variable in environ:
            findings.problem(
                setting.name, f"environment {variable}", f"{file_variable} is set too; keep one of the two"
            )
        if variable in environ:
            given[setting.name] = Given(environ[variable], f"environment {variable}", Kind.TEXT)
        elif environ.get(file_variable):
            given[setting.name] = Given(environ[file_variable], f"file named by {file_variable}", Kind.FILE)
    for variable in sorted(name for name in environ if name.startswith("BROKER_")):
        if variable == "BROKER_SQLITE_DB":
            findings.problem("sqlite_db", f"environment {variable}", SQLITE)
        elif variable not in known:
            findings.warn(_unknown(variable, known))
    return given


def _old_variables(environ: Mapping[str, str], findings: Findings) -> dict[str, Given]:
    given = {}
    for variable, name in OLD_VARIABLES.items():
        if variable in environ:
            findings.warn(f"{variable} is deprecated: set {catalogue()[name].variable} in its place")
            given[name] = Given(environ[variable], f"environment {variable}", Kind.TEXT)
    if environ.get(OLD_LIMIT):
        findings.warn(f"{OLD_LIMIT} is deprecated: set BROKER_LIMITS=email:… in its place")
        given["limits"] = Given(limits_of_old(environ[OLD_LIMIT]), f"environment {OLD_LIMIT}")
    return given


def _unknown(variable: str, known: set[str]) -> str:
    name = variable.removeprefix("BROKER_").lower()
    if name in catalogue():
        return f"{variable} is ignored: {name} can be set in the configuration file only"
    return f"{variable} is ignored: no service has a setting of this name{nearest(variable, known)}"
