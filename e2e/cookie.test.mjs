import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ALICE, addNote, launch, newcomer, signIn, signOut } from './browser.mjs';
import { Demo } from './demo.mjs';

let browser, demo;
before(async () => {
  demo = await Demo.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await demo?.forget();
});

/** All cookies that this browser holds, by its own account. */
async function cookies(page) {
  const protocol = await page.context().newCDPSession(page);
  const { cookies } = await protocol.send('Network.getAllCookies');
  await protocol.detach();
  return cookies;
}

test('there is no cookie before there is something to remember', async () => {
  const page = await newcomer(browser);
  await page.goto(demo.origin);
  await page.goto(`${demo.origin}/nowhere`);
  assert.deepEqual(await cookies(page), []);
});

test('the login page costs a visitor a cookie of its form, as narrow as that of a session, and it goes with the login', async () => {
  const page = await newcomer(browser);
  await page.goto(`${demo.origin}/login`);
  const [{ name, path, httpOnly, secure, sameSite, session }, ...others] = await cookies(page);
  assert.deepEqual(others, []);
  assert.deepEqual(
    { name, path, httpOnly, secure, sameSite, session },
    { name: '__Host-Http-demo-csrf', path: '/', httpOnly: true, secure: true, sameSite: 'Lax', session: true },
  );
  await signIn(page, demo.origin, ALICE);
  assert.deepEqual((await cookies(page)).map((cookie) => cookie.name), ['__Host-Http-demo']);
});

test('the cookie is as narrow as a browser can have it', async () => {
  // By name: at an address, a browser keeps no cookie for a domain, so that there would be nothing to see.
  const origin = `http://localhost:${demo.port}`;
  const page = await newcomer(browser);
  const set = [];
  page.on('response', async (response) => {
    const header = await response.headerValue('set-cookie').catch(() => null);
    if (header) set.push(header);
  });
  await signIn(page, origin, ALICE);
  const [cookie, ...others] = await cookies(page);
  assert.deepEqual(others, []);
  const { name, domain, path, httpOnly, secure, sameSite, session, partitionKey } = cookie;
  assert.deepEqual(
    { name, domain, path, httpOnly, secure, sameSite, session, partitionKey },
    {
      name: '__Host-Http-demo',
      // Without a dot before it: this host only.
      domain: 'localhost',
      path: '/',
      httpOnly: true,
      secure: true,
      sameSite: 'Lax',
      session: true,
      partitionKey: undefined,
    },
  );
  // The login page's cookie is taken away on the way, which is another matter.
  const ours = set.flatMap((headers) => headers.split('\n')).filter((header) => header.startsWith('__Host-Http-demo='));
  assert.ok(ours.length > 0);
  for (const header of ours) assert.doesNotMatch(header, /domain|max-age|expires/i);
});

test('scripts find no secret: not in document.cookie, not in any storage', async () => {
  const page = await newcomer(browser);
  await signIn(page, demo.origin, ALICE);
  for (const path of ['/', '/notes', '/.cloakroom/sessions']) {
    await page.goto(demo.origin + path);
    const found = await page.evaluate(async () => ({
      cookie: document.cookie,
      cookieStore: (await cookieStore.getAll()).length,
      localStorage: localStorage.length,
      sessionStorage: sessionStorage.length,
      indexedDB: (await indexedDB.databases()).length,
      caches: (await caches.keys()).length,
      workers: (await navigator.serviceWorker.getRegistrations()).length,
      scripts: document.scripts.length,
    }));
    for (const [where, what] of Object.entries(found)) assert.ok(!what, `${where} on ${path}: ${what}`);
    const [{ value }] = await cookies(page);
    assert.ok(value.length > 20);
    assert.ok(!(await page.content()).includes(value));
  }
});

test('a script cannot put a cookie of that name beside ours or in its place', async () => {
  const page = await newcomer(browser);
  await signIn(page, demo.origin, ALICE);
  const before = await cookies(page);
  assert.equal(before.length, 1);
  await page.evaluate(() => {
    document.cookie = '__Host-Http-demo=mine; Path=/; Secure; SameSite=Lax';
    document.cookie = '__Host-Http-demo=mine; Path=/notes; Secure';
  });
  assert.deepEqual(await cookies(page), before);
});

test('signing in brings another secret, signing out takes it away, and none is ever logged', async () => {
  const page = await newcomer(browser);
  const secrets = [];
  await page.goto(demo.origin);
  // A choice to remember, so that there is a session before anybody is known.
  await page.getByRole('button', { name: 'Dark' }).click();
  await page.locator('html.theme-dark').waitFor();
  secrets.push(...(await cookies(page)).map(({ value }) => value));
  await signIn(page, demo.origin, ALICE);
  secrets.push(...(await cookies(page)).map(({ value }) => value));
  await addNote(page, 'something');
  await signOut(page);
  assert.deepEqual(await cookies(page), []);
  await signIn(page, demo.origin, ALICE);
  secrets.push(...(await cookies(page)).map(({ value }) => value));
  assert.equal(secrets.length, 3);
  assert.equal(new Set(secrets).size, 3);
  assert.match(demo.log, /authn_login_success/);
  for (const secret of secrets) assert.ok(!demo.log.includes(secret));
});
