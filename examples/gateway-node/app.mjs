// A private page behind Cloakroom's gateway, with node:http only. Usage: node app.mjs [PORT]
import { createServer } from "node:http";

// An example: keep slow, salted hashes. The subject is an id: names change hands, and logs and the store show it.
const ACCOUNTS = [
  { id: "u1001", name: "alice", password: "wonderland-42" },
  { id: "u1002", name: "zoë", password: "builder-42" },
];
const LOGIN = (token) => `<h1>Sign in</h1><form method="post">${token}<p><label>Name <input name="username"></label>
<p><label>Password <input name="password" type="password"></label> <button>Sign in</button></form>`;
const PRIVATE = (user, mood, token) => `<h1>For ${escape(user)} only</h1><form method="post" action="/mood">${token}<label>Mood
<input name="mood" value="${escape(mood)}"></label> <button>Keep</button></form>
<form method="post" action="/logout">${token}<button>Sign out</button></form>`;
const escape = (text) => text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);

// RFC 9651: a String, or a Display String where the text is not ASCII.
const TEXT = String.raw`"(?:[ !#-\[\]-~]|\\["\\])*"|%"(?:[ !#$&-~]|%[0-9a-f]{2})*"`;
const writeText = (text) => /^[ -~]*$/.test(text)
  ? `"${text.replace(/["\\]/g, "\\$&")}"`
  : `%"${[...Buffer.from(text)].map((byte) => byte < 0x20 || byte > 0x7e || byte === 0x22 || byte === 0x25
    ? "%" + byte.toString(16).padStart(2, "0") : String.fromCharCode(byte)).join("")}"`;
const readText = (field) => {
  if (!new RegExp(`^(?:${TEXT})$`).test(field)) throw new Error("neither a String nor a Display String");
  return field[0] === "%" ? decodeURIComponent(field.slice(2, -1)) : field.slice(1, -1).replace(/\\(.)/g, "$1");
};

async function handle(request) {
  const told = request.headers; // a field that came twice is joined by a comma, and then nobody is believed
  const subject = "session-subject" in told ? readText(told["session-subject"]) : null;
  const user = ACCOUNTS.find((account) => account.id === subject);
  const members = (told["session-data"] ?? "").matchAll(new RegExp(`([a-z*][a-z0-9_.*-]*)=(${TEXT})`, "g"));
  const data = new Map([...members].map(([, key, value]) => [key, readText(value)]));
  const value = escape(readText(told["session-csrf-token"])); // proves to the gateway that a form is ours
  const token = `<input type="hidden" name="cloakroom_csrf" value="${value}">`;
  const used = { "Session-Csrf": "?1" }; // "I used it": without a session it needs a cookie
  let body = "";
  for await (const part of request.setEncoding("utf8")) if ((body += part).length > 10_000) throw new Error("too long");
  const form = new URLSearchParams(body);
  switch (`${request.method} ${request.url.split("?")[0]}`) {
    case "GET /": return [200, '<h1>Hello</h1><a href="/private">The private page</a>'];
    case "GET /login": return [200, LOGIN(token), used];
    case "POST /login":
      const account = ACCOUNTS.find(({ name, password }) => name === form.get("username") && password === form.get("password"));
      if (!account) return [422, "<p role=alert>Wrong name or password." + LOGIN(token), used];
      return [303, "", { Location: "/private", "Session-Login": writeText(account.id), "Session-Methods": "pwd" }];
    case "POST /logout": return [303, "", { Location: "/.cloakroom/signed-out", "Session-Logout": "this" }];
    case "GET /private":
      return !user ? [303, "", { Location: "/login" }] : [200, PRIVATE(user.name, data.get("mood") ?? "", token)];
    case "POST /mood":
      if (!user) return [303, "", { Location: "/login" }];
      const mood = writeText((form.get("mood") ?? "").slice(0, 100));
      return [303, "", { Location: "/private", "Session-Set": `mood=${mood}` }];
    default: return [404, "<h1>Not found</h1>"];
  }
}

createServer(async (request, response) => {
  const [status, body, fields] = await handle(request).catch(() => [400, "<h1>Not understood</h1>"]);
  response.writeHead(status, { "Content-Type": "text/html; charset=utf-8", ...fields });
  response.end(`<!doctype html><html lang="en"><meta charset="utf-8"><title>Example</title>${body}`);
}).listen(Number(process.argv[2] ?? process.env.PORT ?? 5001), "127.0.0.1"); // loopback: only the gateway may ask
