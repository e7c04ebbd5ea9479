"""Every page people see, as a function from typed arguments to HTML. Routes send them, and choose the headers."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined

from auth_api.pages.errors import UnsafeUrlError
from auth_api.pages.languages import Locale
from auth_api.pages.static_files import StaticFile, read_static_files
from auth_api.pages.texts import Texts
from service_kit.overrides import compile_template, read_catalogues

_HERE = Path(__file__).parent
_LOCALES = _HERE.parent / "locales"

Fields = Mapping[str, str]


class ErrorKind(StrEnum):
    """What went wrong, as far as the person is concerned; decides the page's sentences, not its status."""

    BAD_REQUEST = "bad_request"
    PROVIDER = "provider"
    INTERNAL = "internal"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_GUESSES = "too_many_guesses"
    EXPIRED = "expired"
    UNAVAILABLE = "unavailable"
    NOT_FOUND = "not_found"


class Notice(StrEnum):
    """News about the mail, shown above the code's field."""

    LATE = "late"
    RESENT = "resent"


class Pages:
    """Renders all pages. Made once: templates are compiled, catalogues and static files read, all in memory.

    `data_dir` may hold an operator's `tmpl/<name>.html`, `res/…` and `lang/<tag>.po`, which win over the shipped ones.
    Raises OverrideError when one of them cannot be used.

    Wherever a method takes `site`, it is the relying party's origin in its Unicode form. All arguments are escaped.
    """

    static_files: Mapping[str, StaticFile]
    """What to serve, by path: `/static/<hash>.<name>`, `/static/<name>`, and what an operator adds."""

    def __init__(self, *, data_dir: Path | None = None) -> None:
        self._static = static = read_static_files(*_folders("res", data_dir))
        self.static_files = MappingProxyType(static.by_path)
        catalogues = read_catalogues(_LOCALES, Locale, data_dir)
        self._texts = {locale: Texts(catalogue) for locale, catalogue in catalogues.items()}
        environment = _environment(_folders("tmpl", data_dir))
        environment.globals["static"] = static.urls.__getitem__
        self._templates = {path.stem: compile_template(environment, path.name) for path in (_HERE / "tmpl").iterdir()}

    def login_hint(self, *, locale: Locale, site: str, parameters: Fields) -> str:
        """The form that asks for the address. `parameters` are those of the authorization request, raw."""
        fields = {
            name: value for name, value in parameters.items() if not name.startswith("_") and name != "login_hint"
        }
        prefill = parameters.get("_login_hint", "")
        return self._render("login_hint", locale, site=site, fields=fields, prefill=prefill)

    def confirm(
        self,
        *,
        locale: Locale,
        site: str,
        address: str,
        session: str,
        resend_in: int | None = None,
        other_address: Fields | None = None,
        can_cancel: bool = False,
        guesses_left: int | None = None,
        notice: Notice | None = None,
    ) -> str:
        """The form for the mailed code.

        Args:
            locale: The page's language.
            site: Where the person wants to log in.
            address: The address as typed.
            session: The login's id.
            resend_in: Seconds until the email may be sent again, 0 for now; None leaves the button out.
            other_address: What to post to /auth to be asked for the address anew: the request's parameters without
                login_hint, perhaps with _login_hint; None leaves the button out.
            can_cancel: Whether to offer going back to the site without logging in.
            guesses_left: After a wrong code, how many more may follow, at least 1; None before the first.
            notice: News about the mail.
        """
        return self._render(
            "confirm",
            locale,
            site=site,
            address=address,
            session=session,
            resend_in=resend_in,
            other_address=other_address,
            can_cancel=can_cancel,
            guesses_left=guesses_left,
            notice=notice,
        )

    def same_browser(self, *, locale: Locale, site: str, address: str, session: str, code: str) -> str:
        """The mailed link, opened where the login began: posts itself to /confirm."""
        return self._render("same_browser", locale, site=site, address=address, session=session, code=code)

    def other_device(self, *, locale: Locale, site: str, address: str, session: str, code: str) -> str:
        """The mailed link, opened elsewhere: shows the code (12 characters), and a button to go on here."""
        return self._render("other_device", locale, site=site, address=address, session=session, code=code)

    def form_post(self, *, locale: Locale, site: str, redirect_uri: str, fields: Fields) -> str:
        """Carries an answer to the relying party (OAuth 2.0 Form Post Response Mode section 2).

        Raises UnsafeUrlError unless `redirect_uri` is http or https.
        """
        return self._render("form_post", locale, site=site, redirect_uri=_link(redirect_uri), fields=fields)

    def callback(self, *, locale: Locale, fields: Fields) -> str:
        """Turns an identity provider's answer in fragment and query (`fields`) into a POST to /callback."""
        return self._render("callback", locale, fields=fields)

    def provider_login(self, *, locale: Locale, site: str, address: str, fields: Fields) -> str:
        """An identity provider's answer (`fields`) in a browser that did not begin the login: a button to go on."""
        return self._render("provider_login", locale, site=site, address=address, fields=fields)

    def error(
        self,
        *,
        locale: Locale,
        kind: ErrorKind,
        description: str = "",
        reference: str | None = None,
        wait: int | None = None,
        try_again: str | None = None,
        fields: Fields | None = None,
        by_itself: bool = True,
    ) -> str:
        """What went wrong, and whom to ask.

        Args:
            locale: The page's language.
            kind: Decides the sentences.
            description: For those who look into it, in English.
            reference: Under which the log has it.
            wait: Seconds until another attempt may follow (RATE_LIMITED), or until the page makes one (UNAVAILABLE).
            try_again: Where "Try again" leads: the site, or for UNAVAILABLE the request's own path and query, which
                the page then opens by itself. Raises UnsafeUrlError unless http, https or a path here.
            fields: What to post there again, with what the person typed; None follows a link.
            by_itself: Whether the page may do so without the person: not where it could be done a second time.
        """
        return self._render(
            "error",
            locale,
            kind=kind,
            description=description,
            reference=reference,
            wait=wait,
            try_again=None if try_again is None else _link(try_again),
            fields=fields,
            by_itself=by_itself,
        )

    def cancelled(self, *, locale: Locale, site: str, site_link: str) -> str:
        """The login was cancelled, for a relying party that wants no errors sent back.

        `site_link` leads back to the site, and raises UnsafeUrlError unless http(s).
        """
        return self._render("cancelled", locale, site=site, site_link=_link(site_link))

    def came_back(
        self, *, locale: Locale, address: str, other_address: Fields, site_link: str, just_now: bool = False
    ) -> str:
        """Mail to the address came back, so none is sent; or it was refused `just_now`.

        `other_address` as for `confirm`; `site_link` leads back to the site, and raises UnsafeUrlError unless http(s).
        """
        return self._render(
            "came_back", locale, address=address, other_address=other_address, site_link=_link(site_link),
            just_now=just_now,
        )  # fmt: skip

    def home(self, *, locale: Locale) -> str:
        """What this service is."""
        return self._render("home", locale)

    def static_file(self, path: str) -> StaticFile | None:
        """What to send for `path`; None when there is no such file."""
        return self._static.find(path)

    def _render(self, name: str, locale: Locale, /, **values: object) -> str:
        texts = self._texts[locale]
        return self._templates[name].render(values, locale=locale, gettext=texts.gettext, ngettext=texts.ngettext)


def _folders(name: str, data_dir: Path | None) -> list[Path]:
    """The shipped folder, then the operator's."""
    return [_HERE / name] if data_dir is None else [_HERE / name, data_dir / name]


def _environment(folders: list[Path]) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in reversed(folders)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.extend(newstyle_gettext=True)  # before the extension, whose own default is the old style
    environment.add_extension("jinja2.ext.i18n")
    environment.policies["ext.i18n.trimmed"] = True
    return environment


def _link(url: str) -> str:
    if url.startswith(("http://", "https://")) or (url.startswith("/") and url[1:2] not in {"/", "\\"}):
        return url
    raise UnsafeUrlError("a page may point only to http(s) addresses and to paths of this service")
