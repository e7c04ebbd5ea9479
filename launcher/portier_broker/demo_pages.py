"""The demo site's HTML."""

from collections.abc import Mapping
from html import escape


def _page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} | Demo site</title>
<link rel="stylesheet" href="/demo.css">
</head>
<body>
<main>
<h1>{escape(title)}</h1>
{body}
</main>
</body>
</html>
"""


def home_page(claims: Mapping[str, object] | None, *, issuer: str) -> str:
    """Who is logged in, or the ways to log in."""
    if claims is not None:
        return _page("You are logged in", _person(claims))
    return _page(
        "Log in to the demo site",
        f"""<p>This site has never been registered at the broker, <code>{escape(issuer)}</code>.
Give any address: the mail goes to the development inbox.</p>
{_form("code", "Authorization code with PKCE", "What most OpenID Connect libraries do. Built with Authlib.")}
{_form("form-post", "ID token by form_post", "What Portier's own clients do.")}""",
    )


def _form(flow: str, title: str, text: str) -> str:
    return f"""<section aria-labelledby="{flow}">
<h2 id="{flow}">{title}</h2>
<p>{text}</p>
<form action="/{flow}/login" method="get">
<label for="{flow}-email">Your e-mail address</label>
<input id="{flow}-email" name="email" type="email" autocomplete="email" required>
<button>Log in</button>
</form>
</section>"""


def _person(claims: Mapping[str, object]) -> str:
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>' for name, value in claims.items()
    )
    return f"""<p>You are <strong id="email">{escape(str(claims["email"]))}</strong>.</p>
<form action="/logout" method="post"><button>Log out</button></form>
<table><caption>What the ID token says</caption>{rows}</table>"""


def failure_page(error: Exception) -> str:
    """What went wrong with a login."""
    return _page(
        "The login did not succeed",
        f"""<p role="alert">{escape(str(error)) or escape(type(error).__name__)}</p>
<p><a href="/">Try again</a></p>""",
    )
