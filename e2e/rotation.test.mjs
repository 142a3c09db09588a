import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, newcomer } from './browser.mjs';
import { Gateway } from './gateway.mjs';

const TABS = 6;
const REQUESTS = Number(process.env.CLOAKROOM_ROTATION_REQUESTS ?? 10_000);
// As short as the rules allow: whenever a rotation may begin, one is due.
const CONFIG = `
[cookie]
name = "__Host-Http-rotation"
[policy]
rotation_interval = "1001ms"
rotation_grace = "1s"
clock_skew = "0s"
[[route]]
path = "/app"
require = "authenticated"
`;

let browser, gateway;
before(async () => {
  gateway = await Gateway.start(CONFIG, application);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await gateway?.forget();
});

/** An application that signs in whoever asks, and keeps what it is told in the session's data. */
function application(request, response) {
  const url = new URL(request.url, 'http://application');
  if (request.method === 'POST' && url.pathname === '/sign-in') response.setHeader('session-login', '"alice"');
  if (request.method === 'POST' && url.pathname === '/app/write') {
    response.setHeader('session-set', `${url.searchParams.get('key')}="${url.searchParams.get('value')}"`);
  }
  response.setHeader('content-type', 'text/html; charset=utf-8');
  response.end(url.pathname === '/app/read' ? (request.headers['session-data'] ?? '') : '<h1>Tab</h1>');
}

/** Runs in a tab: four strands of requests until told to stop, each of which counts its own key up. */
async function work({ tab, requests }) {
  let made = 0;
  const refused = [];
  const written = {};
  const strand = async (key) => {
    for (let value = 0; made < requests; value += 1) {
      made += 1;
      const write = value % 4 === 3;
      const answer = write
        ? await fetch(`/app/write?key=${key}&value=${value}`, { method: 'POST', redirect: 'manual' })
        : await fetch('/app/read', { redirect: 'manual' });
      if (answer.status !== 200) refused.push(`${key} ${value}: ${answer.type} ${answer.status}`);
      else if (write) written[key] = String(value);
    }
  };
  await Promise.all([0, 1, 2, 3].map((number) => strand(`t${tab}.${number}`)));
  return { made, refused, written };
}

test(`nobody is signed out and nothing is lost in ${REQUESTS} requests of ${TABS} tabs, with rotation always due`, { timeout: 600_000 }, async () => {
  const first = await newcomer(browser);
  await first.goto(gateway.origin);
  const signedIn = await first.evaluate(() => fetch('/sign-in', { method: 'POST' }).then((answer) => answer.status));
  assert.equal(signedIn, 200);
  const context = first.context();
  const protocol = await context.newCDPSession(first);
  // What the browser holds, by its own account.
  const token = async () => (await protocol.send('Network.getAllCookies')).cookies.map((cookie) => cookie.value);
  const tokens = new Set(await token());
  const tabs = [first];
  while (tabs.length < TABS) {
    const tab = await context.newPage();
    await tab.goto(gateway.origin);
    tabs.push(tab);
  }

  let running = true;
  const watching = (async () => {
    while (running) {
      for (const value of await token()) tokens.add(value);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  })();
  const requests = Math.ceil(REQUESTS / TABS);
  const results = await Promise.all(tabs.map((page, tab) => page.evaluate(work, { tab, requests })));
  running = false;
  await watching;

  assert.deepEqual(results.flatMap((result) => result.refused), []);
  const made = results.reduce((sum, result) => sum + result.made, 0);
  assert.ok(made >= REQUESTS, `${made} requests`);
  assert.ok(tokens.size >= 5, `only ${tokens.size} secrets were seen in use`);
  // Each key holds the last value that was acknowledged: no write was lost, whatever rotated in between.
  const data = await first.evaluate(() => fetch('/app/read').then((answer) => answer.text()));
  for (const [key, value] of results.flatMap((result) => Object.entries(result.written))) {
    assert.ok(`${data},`.includes(`${key}="${value}",`), `${key} should be ${value} in ${data}`);
  }
  // One secret is left, and it is alive.
  const left = await token();
  assert.equal(left.length, 1);
  console.log(`# ${made} requests, ${tokens.size} secrets, ${gateway.log.match(/session_renewed/g)?.length ?? 0} rotations`);

  // Those before it are not: one that comes back is taken for theft, and the session ends for good.
  const retired = [...tokens].at(-3);
  const replayed = await fetch(`${gateway.origin}/app/read`, {
    headers: { cookie: `__Host-Http-rotation=${retired}` },
    redirect: 'manual',
  });
  assert.equal(replayed.status, 401);
  assert.equal(await first.evaluate(() => fetch('/app/read').then((answer) => answer.status)), 401);
  assert.match(gateway.log, /authn_token_reuse/);
});
