// What may come from elsewhere: a user whom an identity provider's form sends back, and the question of a trusted origin's page.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, newcomer } from '../browser.mjs';
import { Elsewhere } from '../elsewhere.mjs';
import { Gateway } from '../gateway.mjs';

const COOKIE = '__Host-Http-sid';
const BUTTON = { name: 'Win a prize' };

let elsewhere, near, gateway, idp, sibling;
/** What the application was asked for. */
let asked = [];

before(async () => {
  [elsewhere, near] = await Promise.all([Elsewhere.start(), Elsewhere.start()]);
  // Ports are not part of a site: a page at the gateway's own address is of its site, one under another name is not.
  idp = `http://localhost:${elsewhere.port}`;
  sibling = elsewhere.origin;
  const config = `
    [csrf]
    trusted_origins = ["${sibling}"]
    [[route]]
    path = "/login"
    login_start = true
    [[route]]
    path = "=/back"
    login_callback = true
    callback_origins = ["${idp}", "${near.origin}"]
    [[route]]
    path = "/account"
    require = "authenticated"
  `;
  gateway = await Gateway.start(config, application);
});
after(async () => {
  await gateway?.forget();
  await elsewhere?.stop();
  await near?.stop();
});

function application(request, response) {
  asked.push({ what: `${request.method} ${request.url}`, fields: request.headers });
  const subject = request.headers['session-subject'] ?? '';
  const page = (body) => response.writeHead(200, { 'content-type': 'text/html' }).end(`<!doctype html><title>x</title>${body}`);
  const cors = {
    'access-control-allow-origin': request.headers.origin ?? '',
    'access-control-allow-credentials': 'true',
    'access-control-allow-methods': 'PUT',
  };
  const answers = {
    'GET /login': () => response.writeHead(303, { location: `${idp}/harm?SAMLResponse=x&to=${gateway.origin}/back` }).end(),
    'POST /back': () => response.writeHead(303, { location: '/', 'session-login': '"samuel"' }).end(),
    'GET /in': () => page('<form method="post"><button>in</button></form>'),
    'POST /in': () => response.writeHead(303, { location: '/', 'session-login': '"alice"' }).end(),
    'OPTIONS /account': () => response.writeHead(204, cors).end(),
    'PUT /account': () => response.writeHead(200, cors).end(subject),
  };
  (answers[`${request.method} ${request.url}`] ?? (() => page(`<p id="who">${subject}</p>`)))();
}

async function who(page) {
  await page.goto(`${gateway.origin}/`);
  return page.locator('#who').textContent();
}

/** Sends the form that is shown; returns the request to `/back`, and the status of its answer. */
async function send(page) {
  const [request] = await Promise.all([page.waitForRequest(`${gateway.origin}/back`), page.getByRole('button', BUTTON).click()]);
  const status = (await request.response()).status();
  await page.waitForLoadState();
  return { status, cookies: (await request.allHeaders()).cookie ?? '' };
}

for (const engine of ['chromium', 'firefox']) {
  test(`who began a login here is signed in by the identity provider's form, in ${engine}`, async () => {
    const browser = await launch(engine);
    try {
      const page = await newcomer(browser);
      await page.goto(`${gateway.origin}/in`);
      await page.getByRole('button', { name: 'in' }).click();
      await page.locator('#who').waitFor();
      assert.equal(await who(page), '"alice"');
      await page.goto(`${gateway.origin}/login`);
      assert.equal(new URL(page.url()).origin, idp);
      asked = [];
      const { status, cookies } = await send(page);
      assert.equal(status, 303);
      assert.match(cookies, new RegExp(`${COOKIE}-flow=`), 'the cookie of the login comes back');
      assert.doesNotMatch(cookies, new RegExp(`${COOKIE}=`), 'the session cookie does not');
      const back = asked.find(({ what }) => what === 'POST /back');
      assert.equal(back.fields['session-subject'] ?? back.fields['session-handle'] ?? back.fields.cookie, undefined);
      assert.equal(await who(page), '"samuel"');
      const kept = (await page.context().cookies()).map(({ name }) => name);
      assert.ok(!kept.includes(`${COOKIE}-flow`), 'what had begun is over');
    } finally {
      await browser.close();
    }
  });

  test(`no form signs in who began no login here, nor one of a site that is not listed, in ${engine}`, async () => {
    const browser = await launch(engine);
    try {
      const page = await newcomer(browser);
      asked = [];
      await page.goto(`${idp}/harm?SAMLResponse=x&to=${gateway.origin}/back`);
      assert.equal((await send(page)).status, 403);
      await page.getByText('Please begin again').waitFor();
      // Begun, and completed by a form of another origin.
      await page.goto(`${gateway.origin}/login`);
      const evil = await Elsewhere.start();
      await page.goto(`http://localhost:${evil.port}/harm?SAMLResponse=x&to=${gateway.origin}/back`);
      assert.equal((await send(page)).status, 403);
      await evil.stop();
      assert.ok(!asked.some(({ what }) => what === 'POST /back'), 'nothing reached the application');
      assert.equal(await who(page), '');
    } finally {
      await browser.close();
    }
  });

  test(`a frame or a script of an identity provider's page completes no login, in ${engine}`, async () => {
    const browser = await launch(engine);
    try {
      const page = await newcomer(browser);
      await page.goto(`${gateway.origin}/login`);
      // Of the same site, so that the browser keeps no cookie from it as a third party's.
      await page.goto(`${near.origin}/one`);
      asked = [];
      await page.evaluate(async (to) => {
        await fetch(to, { method: 'POST', mode: 'no-cors', credentials: 'include', body: new URLSearchParams({ a: '1' }) }).catch(() => {});
        const frame = Object.assign(document.createElement('iframe'), { name: 'frame' });
        document.body.append(frame);
        const form = Object.assign(document.createElement('form'), { action: to, method: 'post', target: 'frame' });
        document.body.append(form);
        const loaded = new Promise((resolve) => frame.addEventListener('load', resolve));
        form.submit();
        await loaded;
      }, `${gateway.origin}/back`);
      assert.deepEqual(asked, [], 'nothing reached the application');
      assert.equal(await who(page), '');
    } finally {
      await browser.close();
    }
  });

  test(`a trusted origin's page may ask, and then do, what needs a preflight, in ${engine}`, async () => {
    const browser = await launch(engine);
    try {
      const page = await newcomer(browser);
      await page.goto(`${gateway.origin}/in`);
      await page.getByRole('button', { name: 'in' }).click();
      await page.locator('#who').waitFor();
      const put = (to) =>
        fetch(to, { method: 'PUT', credentials: 'include' }).then(
          (response) => response.text(),
          () => 'refused',
        );
      asked = [];
      await page.goto(`${sibling}/one`);
      assert.equal(await page.evaluate(put, `${gateway.origin}/account`), '"alice"');
      assert.deepEqual(asked.map(({ what }) => what), ['OPTIONS /account', 'PUT /account']);
      assert.equal(Object.keys(asked[0].fields).find((name) => name.startsWith('session-')), undefined);
      await page.goto(`${idp}/one`);
      assert.equal(await page.evaluate(put, `${gateway.origin}/account`), 'refused');
      assert.equal(asked.length, 2, 'nothing more reached the application');
    } finally {
      await browser.close();
    }
  });
}
