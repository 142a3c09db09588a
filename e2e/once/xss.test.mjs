// The list of payloads, put into everything that the demo takes, and what a browser makes of the pages. First with the policy, as
// people have it; then without, so that escaping alone has to hold. injected.mjs is the other way round.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ALICE, BOB, launch, newcomer, signIn } from '../browser.mjs';
import { Demo } from '../demo.mjs';
import { PAYLOADS, executable, listen } from '../payloads.mjs';

/** As many notes as the demo keeps for somebody, less one. */
const FULL = 49;

let browser, demo;
before(async () => {
  demo = await Demo.start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await demo?.forget();
});

/** Runs `work` for each of `items`, in a few tabs at once. */
async function inTabs(context, items, work) {
  const queue = [...items];
  const tab = async () => {
    const page = await context.newPage();
    page.on('dialog', (dialog) => dialog.dismiss());
    for (let item = queue.pop(); item !== undefined; item = queue.pop()) await work(page, item);
    await page.close();
  };
  await Promise.all([tab(), tab(), tab()]);
}

/** What ran on a page, what could, and what its policy refused. */
async function assertHarmless(page, payload) {
  const { ran, violated } = await page.evaluate(() => ({ ran, violated }));
  assert.deepEqual({ ran, violated, executable: await page.evaluate(executable) }, { ran: [], violated: [], executable: [] }, payload);
}

/** In a page: sends a form in a way that leads there, as people do. */
function submit({ action, fields }) {
  const form = Object.assign(document.createElement('form'), { method: 'post', action });
  for (const [name, value] of Object.entries(fields)) {
    form.append(Object.assign(document.createElement('input'), { type: 'hidden', name, value }));
  }
  document.body.append(form);
  form.submit();
}

/** In a page: adds notes, and says what came of it. */
async function addAll({ texts, ...fields }) {
  const answers = new Set();
  for (const text of texts) {
    const answer = await fetch('/notes', { method: 'POST', body: new URLSearchParams({ text, ...fields }), redirect: 'manual' });
    answers.add(answer.type);
  }
  return [...answers];
}

/** In a page: removes all notes that it shows. */
async function removeAll() {
  for (const { value } of document.querySelectorAll('button[name=remove]')) {
    await fetch('/notes', { method: 'POST', body: new URLSearchParams({ remove: value }), redirect: 'manual' });
  }
}

/**
 * In a page: asks for each page with a payload and with a harmless word in its place, has the browser parse both, and returns the
 * payloads that change more than texts and values: an element, or the name of an attribute.
 */
async function disturbing({ payloads, harmless }) {
  const skeleton = (html) =>
    [...new DOMParser().parseFromString(html, 'text/html').querySelectorAll('*')]
      .map((element) => [element.localName, ...element.getAttributeNames()].join(' '))
      .join('\n');
  const login = (text) => fetch('/login', { method: 'POST', body: new URLSearchParams({ username: text, password: text, return: text }) });
  const places = {
    'the return parameter': (text) => fetch(`/login?${new URLSearchParams({ return: text, expired: text, ended: text, recent: text })}`),
    'the login form': login,
    'the path': (text) => fetch(`/${encodeURIComponent(text)}`),
    'the query': (text) => fetch(`/?${encodeURIComponent(text)}`),
    'a note that is too long': (text) => fetch('/notes', { method: 'POST', body: new URLSearchParams({ text: `${text} ${'x'.repeat(600)}` }) }),
    'a note to remove': (text) => fetch('/notes', { method: 'POST', body: new URLSearchParams({ remove: text }) }),
    'the theme': (text) => fetch('/theme', { method: 'POST', body: new URLSearchParams({ theme: text, return: text }) }),
    "the gateway's own page": (text) => fetch(`/.cloakroom/sessions?${new URLSearchParams({ handle: text })}`),
    "the gateway's own form": (text) => fetch('/.cloakroom/sessions/end', { method: 'POST', body: new URLSearchParams({ handle: text }) }),
  };
  const found = [];
  let pages = 0;
  for (const [place, ask] of Object.entries(places)) {
    const usual = {};
    for (const word of harmless) {
      const answer = await ask(word);
      usual[answer.status] = skeleton(await answer.text());
    }
    for (const payload of payloads) {
      const answer = await ask(payload);
      const type = answer.headers.get('content-type') ?? '';
      const html = await answer.text();
      pages += 1;
      // A refusal of the gateway is plain text, and must not be sniffed for anything else.
      if (type === 'text/plain; charset=utf-8' && answer.headers.get('x-content-type-options') === 'nosniff') continue;
      if (skeleton(html) !== usual[answer.status]) found.push(`${place}: ${answer.status} ${payload}`);
    }
  }
  return { found, pages };
}

test(`no payload becomes markup anywhere, by the browser's own parser`, async () => {
  // The pages' own policy does not let text be parsed.
  const page = await newcomer(browser, { bypassCSP: true });
  await signIn(page, demo.origin, ALICE);
  const { found, pages } = await page.evaluate(disturbing, { payloads: PAYLOADS, harmless: ['word', '1', '/word'] });
  assert.deepEqual(found, []);
  assert.ok(pages >= PAYLOADS.length * 9);
});

const WITH = ['with the policy', {}];
const WITHOUT = ['without the policy', { bypassCSP: true }];

/** A tab that listens, in a browser of its own. */
async function open([, options]) {
  const page = await newcomer(browser, options);
  await page.context().addInitScript(listen);
  return page;
}

for (const how of [WITH, WITHOUT]) {
  test(`a page that is opened ${how[0]} is one, as an injected script shows`, async () => {
    // Otherwise the tests below would prove nothing.
    const page = await open(how);
    await page.route(demo.origin, async (route) => {
      const response = await route.fetch();
      const body = (await response.text()).replace('</main>', '<script>alert("in line")</script></main>');
      await route.fulfill({ response, body });
    });
    await page.goto(demo.origin);
    const { ran, violated } = await page.evaluate(() => ({ ran, violated }));
    assert.deepEqual(ran, how === WITHOUT ? ['alert(in line)'] : []);
    assert.equal(violated.length > 0, how === WITH);
  });

  test(`${how[0]}, no payload runs that comes back at once, on the login page`, async () => {
    const page = await open(how);
    await inTabs(page.context(), PAYLOADS, async (tab, payload) => {
      if (tab.url() === 'about:blank') await tab.goto(`${demo.origin}/login`);
      const action = `/login?${new URLSearchParams({ return: payload })}#${encodeURIComponent(payload)}`;
      const arrived = tab.waitForNavigation();
      await tab.evaluate(submit, { action, fields: { username: payload, password: 'x', return: payload } });
      assert.equal((await arrived).status(), 422);
      await assertHarmless(tab, payload);
    });
  });
}

/** Keeps all payloads as notes, some at a time, and shows them in a browser with the policy and in one without. */
async function keepAll({ always, fields, look }) {
  const pages = [await open(WITH), await open(WITHOUT)];
  for (const page of pages) await signIn(page, demo.origin, BOB);
  for (let from = 0; from < PAYLOADS.length; from += FULL) {
    const texts = [...always, ...PAYLOADS.slice(from, from + FULL)];
    assert.deepEqual(await pages[0].evaluate(addAll, { texts, ...fields }), ['opaqueredirect']);
    for (const page of pages) {
      await page.goto(`${demo.origin}/notes`);
      await assertHarmless(page, `${from} and after`);
      await look(page, texts);
    }
    await pages[0].evaluate(removeAll);
  }
}

test(`with and without the policy, ${PAYLOADS.length} payloads that are kept as notes are shown as what they are`, async () => {
  // The demo drops control characters, and browsers send line breaks in their own way.
  const kept = (text) => text.replaceAll(/[\p{C}\p{Z}]/gu, '');
  const look = async (page, texts) => {
    const shown = await page.locator('p.note').evaluateAll((notes) => notes.map((note) => note.textContent));
    assert.deepEqual(shown.map(kept).sort(), texts.map(kept).sort());
  };
  await keepAll({ always: [], fields: {}, look });
});

test(`with and without the policy, ${PAYLOADS.length} payloads that are kept as formatted notes lose what could run, and what is harmless stays`, async () => {
  const always = ['<b>tea</b> and <a href="https://example.org/">cake</a>'];
  const look = async (page, texts) => {
    assert.equal(await page.locator('.note.rich b', { hasText: 'tea' }).count(), 1);
    assert.equal(await page.locator('.note.rich a[href="https://example.org/"]').count(), 1);
    // No note breaks out of its place, or holds a form, a style or something to load.
    assert.equal(await page.locator('ul.notes > li > .note.rich').count(), texts.length);
    const inside = 'form, input, button, textarea, select, style, img, svg, math, video, audio, source, [id], [name], [class]';
    assert.deepEqual(await page.locator(`.note.rich :is(${inside})`).evaluateAll((all) => all.map((one) => one.outerHTML)), []);
  };
  await keepAll({ always, fields: { formatted: '1' }, look });
});

test('a browser that calls itself by a payload is listed by a name of ours', async () => {
  const page = await newcomer(browser);
  await page.context().addInitScript(listen);
  await signIn(page, demo.origin, ALICE);
  for (const payload of PAYLOADS.filter((text) => /^[\x20-\x7e]+$/.test(text)).slice(0, 4)) {
    const other = await newcomer(browser, { userAgent: payload });
    await signIn(other, demo.origin, ALICE);
    await other.context().close();
  }
  await page.goto(`${demo.origin}/.cloakroom/sessions`);
  await assertHarmless(page, 'the sessions');
  assert.ok((await page.getByRole('list', { name: 'Sessions' }).getByRole('listitem').count()) > 4);
});

test('where a login leads to is always of this site', async () => {
  const page = await newcomer(browser);
  await page.context().addInitScript(listen);
  await page.goto(`${demo.origin}/login`);
  const led = await page.evaluate(
    async ({ payloads, account }) => {
      const targets = new Set();
      for (const target of payloads) {
        const fields = { username: account.name, password: account.password, return: target };
        const { url, type } = await fetch('/login', { method: 'POST', body: new URLSearchParams(fields) }).catch(() => ({ type: 'led away' }));
        targets.add(url ? new URL(url).origin : type);
      }
      return [...targets];
    },
    { payloads: PAYLOADS.filter((text) => /^[\s/\\]|script:/i.test(text)), account: ALICE },
  );
  assert.deepEqual(led, [demo.origin]);
});
