"""What the command line offers beside serving: a look at a login in flight, and at Redis."""

import argparse
from functools import partial

from auth_api.errors import CommandError, CorruptRecordError
from auth_api.oidc.authorization_request import AuthorizationRequest
from auth_api.settings import SERVICE, Settings
from service_kit.cli import Cli
from service_kit.logs import short_id
from service_kit.settings import Loaded
from shared_store import logins
from shared_store.acl import SERVICES
from shared_store.doctor import report
from shared_store.errors import StoreError
from shared_store.logins import LoginState
from shared_store.store import Store


def add_commands(cli: Cli[Settings]) -> None:
    """Add `auth-api login ID` and `auth-api doctor`."""
    parser = cli.add_command("login", show_login, help="show a login in flight, by the id that its log lines carry")
    parser.add_argument("id", help="the login's short id, or its session id")
    examining = cli.add_command("doctor", examine_store, help="examine Redis; ends with 1 for warnings, 2 for errors")
    examining.add_argument("--json", action="store_true", help="for machines")
    examining.add_argument("--all", action="store_true", help="for all three services, not auth-api alone")


async def show_login(loaded: Loaded[Settings], arguments: argparse.Namespace) -> int:
    """Print what is known of a login: no code, no token, of the address only its domain."""
    async with Store.of(loaded.settings, client_name=SERVICE) as store:
        try:
            state = await logins.find(store, lambda session: arguments.id in (session, short_id(session)))
        except StoreError as error:
            raise CommandError(str(error)) from error
    if state is None:
        print(f"no login {short_id(arguments.id) if len(arguments.id) > 10 else arguments.id} is in flight")
        return 1
    print(_described(state))
    return 0


async def examine_store(loaded: Loaded[Settings], arguments: argparse.Namespace) -> int:
    """Print what the doctor finds; 0 where all is fine, 1 for warnings, 2 for errors."""
    open_store = partial(Store.of, loaded.settings, client_name=SERVICE)
    services = tuple(SERVICES) if arguments.all else (SERVICE,)
    text, code = await report(open_store, services=services, as_json=arguments.json)
    print(text)
    return code


def _described(state: LoginState) -> str:
    try:
        request = AuthorizationRequest.from_json(state.login.request)
    except CorruptRecordError as error:
        return f"login {short_id(state.session_id)}: {error}"
    waits_for = "a code" if state.waits_for_code else "an identity provider"
    return "\n".join(
        (
            f"login          {short_id(state.session_id)}",
            f"site           {request.client_id}",
            f"asks for       {request.response_type} by {request.return_address.response_mode}",
            f"address        …@{request.address.domain if request.address else '?'}",
            f"state          {'over' if state.over else f'waits for {waits_for}'}",
            f"wrong guesses  {state.wrong_guesses}",
            f"mails          {state.mails}",
            f"ends in        {state.seconds_left:.0f} s",
        )
    )
