"""From a mail job's facts to a mail in the person's language. Owns templates and languages; knows no transport."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from mailer.errors import MalformedMailError
from mailer.mails import Mail, Sender, left_to_right, one_line
from mailer.recipients import parse_recipient
from mailer.signing import DkimSigner
from service_kit.overrides import Catalogue, compile_template, read_catalogues
from shared_store.mail_jobs import MailJob

_HERE = Path(__file__).parent
LOCALES = ("en", "de", "nl", "fr-CA", "fr")  # BCP 47 tags, as auth-api has them
_BY_TAG = {tag.lower(): tag for tag in LOCALES}
_CODE = re.compile(r"[a-z0-9]{12}")
_LINK = re.compile(r"https?://[!-~]{1,2000}")


class _Language:
    """The compiled templates of one language."""

    def __init__(self, tag: str, catalogue: Catalogue, folders: list[Path]) -> None:
        self.tag = tag
        self.catalogue = catalogue
        environment = Environment(
            loader=FileSystemLoader(folders),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            extensions=["jinja2.ext.i18n"],
            keep_trailing_newline=True,
        )
        environment.install_gettext_callables(  # type: ignore[attr-defined]  # the i18n extension adds it
            catalogue.gettext, catalogue.ngettext, newstyle=True
        )
        # The extension's own `_` looks `gettext` up and calls it, a twentieth of what a mail costs.
        environment.globals["_"] = environment.globals["gettext"]
        self.text = compile_template(environment, "login_mail.txt")
        self.html = compile_template(environment, "login_mail.html")

    def subject(self, site: str) -> str:
        def _(message: str) -> str:
            return self.catalogue.gettext(message)

        return _("Finish logging in to %(site)s") % {"site": site}


class Renderer:
    """Renders login mails. Made once: templates are compiled, catalogues read.

    `data_dir` may hold an operator's `tmpl/login_mail.txt`, `tmpl/login_mail.html` and `lang/<tag>.po`.

    Raises:
        OverrideError: one of them can't be used.
    """

    def __init__(self, sender: Sender, *, data_dir: Path | None = None, signer: DkimSigner | None = None) -> None:
        self._sender = sender
        self._signer = signer
        folders = [*([data_dir / "tmpl"] if data_dir else []), _HERE / "templates"]
        self._languages: Mapping[str, _Language] = {
            tag: _Language(tag, catalogue, folders)
            for tag, catalogue in read_catalogues(_HERE / "locales", LOCALES, data_dir).items()
        }
        self._headers = (
            ("Auto-Submitted", "auto-generated"),
            ("X-Auto-Response-Suppress", "All"),
            ("List-Id", f"Authentication <auth.{sender.domain}>"),
        )

    def render(self, job: MailJob, *, now: float) -> Mail:
        """Make the mail that a job asks for; `now` is Unix time, as the store has it.

        Raises:
            MalformedMailError: its address, link or code can't be mailed.
        """
        to = parse_recipient(job.to)
        if not _CODE.fullmatch(job.code):
            raise MalformedMailError("the code is not twelve letters and digits")
        if not _LINK.fullmatch(job.link) or not urlsplit(job.link).hostname:
            raise MalformedMailError("the link is not an http or https URL")
        site = one_line(job.site)
        language = self._languages[_locale(job.locale)]
        left = job.requested_at + job.expires_in - now if job.requested_at else job.expires_in
        facts = {
            "language": language.tag,
            "sender": self._sender.name,
            "site": left_to_right(site),
            "bold_site": Markup('<bdi dir="ltr">{}</bdi>').format(escape(site.removeprefix("https://"))),
            "link": job.link,
            "code": f"{job.code[:6]} {job.code[6:]}",
            "minutes": max(1, int((left + 10) // 60)),  # the seconds on the way here are nobody's concern
        }
        return Mail(
            id=job.id,
            sender=self._sender,
            to=to,
            subject=language.subject(left_to_right(site)),
            text=language.text.render(facts),
            html=language.html.render(facts),
            headers=(*self._headers, ("Content-Language", language.tag)),
            sign=self._signer,
        )


def _locale(tag: str) -> str:
    """The language to write in: the tag's own, or its language without region, else English."""
    tag = tag.replace("_", "-").lower()
    return _BY_TAG.get(tag) or _BY_TAG.get(tag.partition("-")[0], "en")
