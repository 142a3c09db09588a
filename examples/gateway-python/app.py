"""A private page behind Cloakroom's gateway, with the standard library only. Usage: python3 app.py [PORT]"""
import hmac, html, os, re, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote

ACCOUNTS = {"alice": ("u1001", "wonderland-42"), "zoë": ("u1002", "builder-42")}  # an example: keep slow, salted hashes
NAMES = {id: name for name, (id, _) in ACCOUNTS.items()}  # the subject is an id: names change hands, and logs and the store show it
TOKEN = '<input type="hidden" name="cloakroom_csrf" value="{}">'  # proves to the gateway that the form is ours
LOGIN = """<h1>Sign in</h1><form method="post">{}<p><label>Name <input name="username"></label>
<p><label>Password <input name="password" type="password"></label> <button>Sign in</button></form>"""
PRIVATE = """<h1>For {user} only</h1><form method="post" action="/mood">{token}<label>Mood <input name="mood" value="{mood}">
</label> <button>Keep</button></form><form method="post" action="/logout">{token}<button>Sign out</button></form>"""
TEXT = r'"(?:[ !#-\[\]-~]|\\["\\])*"|%"(?:[ !#$&-~]|%[0-9a-f]{2})*"'  # RFC 9651: String, Display String

def write_text(text):
    if all(" " <= letter <= "~" for letter in text):
        return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
    return '%"' + "".join(chr(b) if 32 <= b < 127 and b not in b'%"' else f"%{b:02x}" for b in text.encode()) + '"'

def read_text(field):
    if not re.fullmatch(TEXT, field):
        raise ValueError("neither a String nor a Display String")
    return unquote(field[2:-1], errors="strict") if field[0] == "%" else re.sub(r"\\(.)", r"\1", field[1:-1])

class App(BaseHTTPRequestHandler):
    def handle_request(self):
        told = lambda name: ", ".join(self.headers.get_all(name, []))  # twice is malformed: nobody is believed
        user = read_text(told("Session-Subject")) if told("Session-Subject") else None
        data = dict(re.findall(rf"([a-z*][a-z0-9_.*-]*)=({TEXT})", told("Session-Data")))
        token = TOKEN.format(html.escape(read_text(told("Session-Csrf-Token"))))
        login = LOGIN.format(token), {"Session-Csrf": "?1"}  # "I used it": without a session it needs a cookie
        body = self.rfile.read(min(int(self.headers["Content-Length"] or 0), 10_000))
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        name = NAMES.get(user)
        id, right = ACCOUNTS.get(form.get("username", ""), ("", ""))
        password = form.get("password", "").encode()
        match self.command, self.path.split("?")[0], name:
            case "GET", "/", _: return 200, '<h1>Hello</h1><a href="/private">The private page</a>', {}
            case "GET", "/login", _: return 200, *login
            case "POST", "/login", _ if hmac.compare_digest(right.encode(), password or b"-"):
                return 303, "", {"Location": "/private", "Session-Login": write_text(id), "Session-Methods": "pwd"}
            case "POST", "/login", _: return 422, "<p role=alert>Wrong name or password." + login[0], login[1]
            case "POST", "/logout", _: return 303, "", {"Location": "/.cloakroom/signed-out", "Session-Logout": "this"}
            case _, "/private" | "/mood", None: return 303, "", {"Location": "/login"}
            case "POST", "/mood", _:
                mood = write_text(form.get("mood", "")[:100])
                return 303, "", {"Location": "/private", "Session-Set": f"mood={mood}"}
            case "GET", "/private", _:
                mood = html.escape(read_text(data.get("mood", '""')))
                return 200, PRIVATE.format(user=html.escape(name), mood=mood, token=token), {}
        return 404, "<h1>Not found</h1>", {}

    def do_GET(self):
        try: status, body, fields = self.handle_request()
        except ValueError: status, body, fields = 400, "<h1>Not understood</h1>", {}
        page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Example</title>{body}'.encode()
        self.send_response(status)
        for field in {"Content-Type": "text/html; charset=utf-8", "Content-Length": str(len(page)), **fields}.items():
            self.send_header(*field)
        self.end_headers()
        self.wfile.write(page)

    do_POST = do_GET

if __name__ == "__main__":  # loopback only: the gateway's fields are believed, so nobody else may send any
    ThreadingHTTPServer(("127.0.0.1", int((sys.argv[1:] or [os.environ.get("PORT", "5000")])[0])), App).serve_forever()
