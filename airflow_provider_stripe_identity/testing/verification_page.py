"""The page behind the `url` of a session: whoever opens it is the person."""

from __future__ import annotations

from html import escape

from .objects import REASONS, Json

PATH = "/start/"
# Nothing is loaded from anywhere, and no other site may show the page in a frame.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'self'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>Verify your identity (emulator)</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 32rem; margin: 3rem auto; padding: 0 1rem }}
form {{ margin: 1rem 0 }}
button, select {{ font: inherit; padding: .4rem .8rem; max-width: 100% }}
code {{ overflow-wrap: anywhere }}
</style>
</head>
<body>
<h1>Verify your identity</h1>
<p>This is the emulator: nobody is checked, you say what happens.</p>
{body}
</body>
</html>
"""


def html(session: Json | None, said: str = "") -> str:
    """
    Return the page.

    :param session: the session of the address, None if there is none or its address is used up
    :param said: what has just happened
    """
    if session is None or session["url"] is None:
        return _PAGE.format(body=f'<p id="state">{escape(said or "This link is not valid any more.")}</p>')
    facts = [("Session", session["id"]), ("Reference", session["client_reference_id"]), ("Type", session["type"])]
    if session["last_error"]:
        facts.append(("Last attempt", session["last_error"]["reason"]))
    shown = "".join(f"<br>{name}: <code>{escape(str(value))}</code>" for name, value in facts if value)
    reasons = "".join(
        f'<option value="{code}">{escape(f"{code}: {reason}")}</option>' for code, reason in REASONS.items()
    )
    body = f"""<p id="state">{escape(said)}{shown}</p>
<form method="post"><button name="outcome" value="verified">Verify</button></form>
<form method="post">
<select name="code" aria-label="Reason">{reasons}</select>
<button name="outcome" value="failed">Fail</button>
</form>
<form method="post"><button name="outcome" value="abandoned">Give up</button></form>"""
    return _PAGE.format(body=body)
