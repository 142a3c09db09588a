// What pages of others can do to somebody who is signed in: nothing.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ALICE, PHONE, addNote, launch, newcomer, note, signIn, until } from './browser.mjs';
import { Demo } from './demo.mjs';
import { Elsewhere } from './elsewhere.mjs';

let browser, demo, elsewhere;
before(async () => {
  demo = await Demo.start();
  elsewhere = await Elsewhere.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await elsewhere?.stop();
  await demo?.forget();
});

const TARGETS = [
  ['/notes', { text: 'planted' }],
  ['/logout', {}],
  ['/theme', { theme: 'dark', return: '/' }],
  ['/.cloakroom/logout', {}],
  ['/.cloakroom/sessions/end-others', {}],
];

// Ports are not part of a site: a page at the same address sends our cookie along, one under another name does not.
for (const [kind, host] of [
  ['another site', 'localhost'],
  ['another origin of the same site', '127.0.0.1'],
]) {
  test(`a form on ${kind} neither adds a note nor signs anybody out`, async () => {
    const logged = () => demo.log.match(/malicious_csrf/g)?.length ?? 0;
    const page = await newcomer(browser);
    await signIn(page, demo.origin, ALICE);
    await addNote(page, `mine, despite ${kind}`);
    const phone = await newcomer(browser, { userAgent: PHONE });
    await signIn(phone, demo.origin, ALICE);
    for (const [path, fields] of TARGETS) {
      const before = logged();
      const query = new URLSearchParams({ ...fields, to: demo.origin + path });
      await page.goto(`http://${host}:${elsewhere.port}/harm?${query}`);
      const [request] = await Promise.all([
        page.waitForRequest(demo.origin + path),
        page.getByRole('button', { name: 'Win a prize' }).click(),
      ]);
      assert.equal((await request.response()).status(), 403, path);
      const { cookie } = await request.allHeaders();
      assert.equal(cookie !== undefined, kind !== 'another site', `the cookie goes along to ${path}`);
      await until(`${path} is logged as an attempt`, () => logged() > before);
    }
    for (const device of [page, phone]) {
      await device.goto(`${demo.origin}/notes`);
      assert.equal(await note(device, `mine, despite ${kind}`).count(), 1);
      assert.equal(await note(device, 'planted').count(), 0);
      assert.equal(await device.locator('html.theme-dark').count(), 0);
    }
  });

  test(`a script on ${kind} can neither change nor read anything`, async () => {
    const page = await newcomer(browser);
    await signIn(page, demo.origin, ALICE);
    await addNote(page, `unread by ${kind}`);
    await page.goto(`http://${host}:${elsewhere.port}/one`);
    const outcome = await page.evaluate(async (origin) => {
      const ask = (path, options) =>
        fetch(origin + path, { credentials: 'include', ...options }).then(
          (response) => response.text(),
          () => '',
        );
      const frame = document.createElement('iframe');
      frame.src = `${origin}/.cloakroom/sessions`;
      document.body.append(frame);
      return {
        added: await ask('/notes', { method: 'POST', mode: 'no-cors', body: new URLSearchParams({ text: 'planted' }) }),
        out: await ask('/logout', { method: 'POST', mode: 'no-cors' }),
        read: await ask('/notes'),
        looked: await ask('/notes', { mode: 'no-cors' }),
      };
    }, demo.origin);
    assert.deepEqual(outcome, { added: '', out: '', read: '', looked: '' });
    await page.goto(`${demo.origin}/notes`);
    assert.equal(await note(page, `unread by ${kind}`).count(), 1);
    assert.equal(await note(page, 'planted').count(), 0);
  });
}

test('a link from another site leads to a page where one is signed in', async () => {
  const page = await newcomer(browser);
  await signIn(page, demo.origin, ALICE);
  await page.goto(`http://localhost:${elsewhere.port}/one`);
  await page.evaluate((url) => (location.href = url), `${demo.origin}/notes`);
  await page.waitForURL(`${demo.origin}/notes`);
  await page.getByRole('heading', { name: 'Your notes' }).waitFor();
});
