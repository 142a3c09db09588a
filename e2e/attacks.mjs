// What a page can do to a site where its reader is signed in: the table, the application that it is tried on, and the trial.
//
// Each attack is a page. It is tried from three places: from another site, from another origin of the same site (whose requests
// carry the cookie), and from the site itself, where the very same page has to work. So a refusal is never mere breakage.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import { launch, newcomer, until } from './browser.mjs';
import { Elsewhere } from './elsewhere.mjs';
import { Gateway } from './gateway.mjs';

const CONFIG = `
login_page = "/login"
[cookie]
name = "__Host-Http-attacked"
[csp]
# The site may frame itself, so that the twin of a frame has something to show.
framed_by = []
[[route]]
path = "/account"
require = "authenticated"
`;

const SECRET = 'the spare key is under the mat';
const FORGED = 'malicious_csrf';
const EMBEDDED = 'malicious_cors';

/** A form that goes to `action`, for the test to send. */
const form = (action, fields, attributes = '') => {
  const inputs = Object.entries(fields).map(([name, value]) => `<input type="hidden" name="${name}" value="${value}">`);
  return `<form method="post" action="${action}" ${attributes}>${inputs.join('')}<button>Win a prize</button></form>`;
};
/** A script, which says by `done` how it went. */
const script = (nonce, text) => `<script nonce="${nonce}">${text}</script>`;
/** A page whose script asks for `path`. */
const request = (path, options) => ({ at, nonce }) =>
  script(nonce, `fetch('${at}${path}', { credentials: 'include', ${options} }).then(
    (answer) => done(answer.ok ? 'passed' : 'refused: ' + answer.status),
    (error) => done('refused: ' + error),
  );`);

/**
 * The table. `page` makes the page, `outcome` says how to find out whether it got what it wanted, `event` is what is logged when it
 * comes from elsewhere; where there is none, the request reaches the application and the browser keeps the answer from the page;
 * with `preflight`, only that is answered. `changes` is set where the page is after a change instead of a look; `who` is who is signed in before
 * and, where it works, after. Pages cannot set `innerHTML` or the like, which the site's own policy forbids its twin.
 */
export const ATTACKS = [
  { name: 'a form', page: ({ at }) => form(`${at}/change`, { mood: 'planted' }), outcome: sent, event: FORGED, changes: true },
  {
    name: 'a form with a file type',
    page: ({ at }) => form(`${at}/change`, { mood: 'planted' }, 'enctype="multipart/form-data"'),
    outcome: sent,
    event: FORGED,
    changes: true,
  },
  {
    name: 'a form that passes for JSON',
    page: ({ at }) => form(`${at}/change`, { '{&quot;mood&quot;:&quot;planted&quot;,&quot;': '&quot;:0}' }, 'enctype="text/plain"'),
    outcome: sent,
    event: FORGED,
    changes: true,
  },
  {
    name: 'a script that posts and does not look',
    page: request('/change', `method: 'POST', mode: 'no-cors', body: new URLSearchParams({ mood: 'planted' })`),
    event: FORGED,
    changes: true,
  },
  {
    name: 'a beacon',
    page: ({ at, nonce }) =>
      script(nonce, `navigator.sendBeacon('${at}/change', new URLSearchParams({ mood: 'planted' })); done('sent');`),
    event: FORGED,
    changes: true,
  },
  {
    name: 'a script that puts JSON',
    // It asks for leave first, which the application does not give.
    page: request('/change', `method: 'PUT', headers: { 'content-type': 'application/json' }, body: '{"mood":"planted"}'`),
    event: null,
    preflight: true,
    changes: true,
  },
  { name: 'a script that reads', page: request('/account/data.json', ''), event: EMBEDDED },
  {
    name: 'a script that reads where the application lets everybody',
    page: request('/open.json', ''),
    event: null,
  },
  { name: 'an image', page: ({ at }) => `<img src="${at}/account/picture.svg">`, event: EMBEDDED },
  { name: 'a script file', page: ({ at, nonce }) => `<script nonce="${nonce}" src="${at}/account/script.js"></script>`, event: EMBEDDED },
  { name: 'a stylesheet', page: ({ at }) => `<link rel="stylesheet" href="${at}/account/style.css">`, event: EMBEDDED },
  { name: 'a frame with account content', page: ({ at }) => `<iframe src="${at}/account/page"></iframe>`, outcome: framed, event: EMBEDDED },
  // Nothing of the user's is in it, so that it may be asked for; but clicks on it are the user's.
  { name: 'a frame with a button to click', page: ({ at }) => `<iframe src="${at}/button"></iframe>`, outcome: framed, event: null },
  {
    name: 'an event stream',
    page: ({ at, nonce }) =>
      script(nonce, `const events = new EventSource('${at}/account/events', { withCredentials: true });
        events.onmessage = () => { events.close(); done('passed'); };
        events.onerror = () => { events.close(); done('refused'); };`),
    event: EMBEDDED,
  },
  {
    name: 'a WebSocket',
    page: ({ at, nonce }) =>
      script(nonce, `const socket = new WebSocket('${at.replace('http', 'ws')}/account/socket');
        socket.onmessage = () => { socket.close(); done('passed'); };
        socket.onerror = () => done('refused');`),
    event: FORGED,
  },
  {
    name: 'a login with the credentials of the attacker',
    page: ({ at }) => form(`${at}/login`, { username: 'mallory' }),
    outcome: sent,
    event: FORGED,
    who: ['nobody', 'mallory'],
  },
  {
    name: 'a login over the session of the user',
    page: ({ at }) => form(`${at}/login`, { username: 'mallory' }),
    outcome: sent,
    event: FORGED,
    who: ['alice', 'mallory'],
  },
  {
    name: 'a logout',
    page: ({ at }) => form(`${at}/.cloakroom/logout`, {}),
    outcome: sent,
    event: FORGED,
    who: ['alice', 'nobody'],
  },
];

const PLACES = ['another site', 'another origin of the same site', 'the site itself'];

/** Sends the page's form, and sees whether the browser is then shown a refusal. */
async function sent(page) {
  const left = page.waitForNavigation({ waitUntil: 'load' });
  await page.getByRole('button', { name: 'Win a prize' }).click();
  await left;
  const text = await page.locator('body').innerText();
  return text.includes('This request was refused') ? 'refused' : 'passed';
}

/** What the page itself finds out. */
function told(page) {
  return page.evaluate(() => outcome);
}

/** Whether the frame of the page shows anything of ours, which the page itself is not to know. */
async function framed(page) {
  await page.evaluate(() => outcome);
  for (const frame of page.frames().slice(1)) {
    const text = await frame.evaluate(() => document.documentElement.innerText).catch(() => '');
    if (text.includes(SECRET)) return 'passed';
  }
  return 'refused';
}

/** The page of the attack with a number, on whatever site it lies. */
function pageOf(number, at, nonce = '') {
  const listen = `
    const outcome = new Promise((resolve) => (window.done = resolve));
    const settle = (how) => ({ target }) => { if (target instanceof Element) done(how); };
    document.addEventListener('load', settle('passed'), true);
    document.addEventListener('error', settle('refused'), true);`;
  const html = ATTACKS[number]?.page({ at, nonce });
  return html && `<!doctype html><title>Page</title><script nonce="${nonce}">${listen}</script>${html}`;
}

/** An application with something of its user's in every kind of content, which notes what reaches it. */
class Application {
  mood = 'calm';
  /** Methods and paths. */
  reached = [];

  handle = async (request, response) => {
    const url = new URL(request.url, 'http://application');
    this.reached.push(`${request.method} ${url.pathname}`);
    let body = '';
    for await (const chunk of request) body += chunk;
    const subject = request.headers['session-subject']?.slice(1, -1) ?? 'nobody';
    const answer = (type, text) => response.setHeader('content-type', `${type}; charset=utf-8`).end(text);
    const html = (text) => answer('text/html', `<!doctype html><title>Application</title>${text}`);
    switch (`${request.method} ${url.pathname}`) {
      case 'POST /login':
        response.setHeader('session-login', `"${/username=(\w+)/.exec(body)?.[1] ?? 'alice'}"`);
        return html('Welcome');
      case 'POST /change':
      case 'PUT /change':
        if (body.includes('planted')) this.mood = 'planted';
        return html('Done');
      case 'GET /who':
        return html(`<p>${subject}</p>`);
      case 'GET /page':
        // Scripts of the site's own pages run by the nonce that the gateway has drawn.
        return html(pageOf(url.searchParams.get('attack'), '', request.headers['csp-nonce'].slice(1, -1)));
      case 'GET /open.json':
        response.setHeader('access-control-allow-origin', request.headers.origin ?? '*');
        response.setHeader('access-control-allow-credentials', 'true');
        return answer('application/json', JSON.stringify(SECRET));
      case 'GET /button':
        return html(`<form method="post" action="/change"><button>${SECRET}</button></form>`);
      case 'GET /account/page':
        return html(`<p>${SECRET}</p>`);
      case 'GET /account/data.json':
        return answer('application/json', JSON.stringify(SECRET));
      case 'GET /account/picture.svg':
        return answer('image/svg+xml', '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>');
      case 'GET /account/script.js':
        return answer('text/javascript', `window.leaked = '${SECRET}';`);
      case 'GET /account/style.css':
        return answer('text/css', 'body { color: teal; }');
      case 'GET /account/events':
        return answer('text/event-stream', `data: ${SECRET}\n\n`);
      default:
        return html('<h1>Front page</h1>');
    }
  };

  /** A WebSocket that says one sentence (RFC 6455). */
  upgrade = (request, socket) => {
    this.reached.push(`${request.method} ${new URL(request.url, 'http://application').pathname}`);
    const key = request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
    const accept = createHash('sha1').update(key).digest('base64');
    socket.on('error', () => {});
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    socket.write(Buffer.from([0x81, SECRET.length, ...Buffer.from(SECRET)]));
    // What comes then is the other side's end.
    socket.once('data', () => socket.end());
  };
}

/** Tries the whole table in one engine. */
export function tryAttacks(engine) {
  let browser, gateway, elsewhere, application;
  before(async () => {
    application = new Application();
    gateway = await Gateway.start(CONFIG, application.handle, { upgrade: application.upgrade });
    elsewhere = await Elsewhere.start((url) => pageOf(url.pathname.slice(1), gateway.origin));
    browser = await launch(engine);
  });
  after(async () => {
    await browser?.close();
    await elsewhere?.stop();
    await gateway?.forget();
  });

  // What a browser reports of a frame comes when it likes; injected.mjs waits for it.
  const events = () => gateway.log.match(/\bmalicious_(?!csp_violation)\w+/g) ?? [];
  const who = async (page) => {
    await page.goto(`${gateway.origin}/who`);
    return page.locator('p').innerText();
  };
  /** A browser of somebody, who looks at the site. */
  const visitor = async (subject) => {
    const page = await newcomer(browser);
    await page.goto(gateway.origin);
    if (subject !== 'nobody') {
      const signIn = (username) => fetch('/login', { method: 'POST', body: new URLSearchParams({ username }) }).then(({ status }) => status);
      assert.equal(await page.evaluate(signIn, subject), 200);
    }
    return page;
  };

  for (const [number, attack] of ATTACKS.entries()) {
    const [before, afterwards] = attack.who ?? ['alice', 'alice'];
    test(`${engine}: ${attack.name} works on the site itself, and from nowhere else`, async () => {
      const page = await visitor(before);
      for (const place of PLACES) {
        const home = place === PLACES[2];
        const url = home
          ? `${gateway.origin}/page?attack=${number}`
          : `http://${place === PLACES[0] ? 'localhost' : '127.0.0.1'}:${elsewhere.port}/${number}`;
        const logged = events().length;
        application.mood = 'calm';
        application.reached = [];
        await page.goto(url);
        const outcome = await (attack.outcome ?? told)(page);
        if (home) {
          if (attack.changes) await until('the change is made', () => application.mood === 'planted');
          else assert.equal(outcome, 'passed', place);
          assert.equal(await who(page), afterwards, place);
          assert.deepEqual(events().slice(logged), [], `nothing is logged of ${place}`);
          continue;
        }
        if (attack.event) await until(`${attack.event} is logged for ${place}`, () => events().length > logged);
        assert.deepEqual([...new Set(events().slice(logged))], attack.event ? [attack.event] : [], place);
        // Before anything of the application has run.
        const reached = application.reached.filter((entry) => !entry.startsWith('OPTIONS') && !entry.endsWith('favicon.ico'));
        if (attack.event || attack.preflight) assert.deepEqual(reached, [], place);
        else assert.notDeepEqual(reached, [], place);
        if (!attack.changes) assert.match(outcome, /^refused/, place);
        assert.equal(application.mood, 'calm', place);
        assert.equal(await who(page), before, place);
      }
      await page.context().close();
    });
  }
}
