// What a browser shows of a person who has signed out, to whoever presses Back.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ALICE, addNote, launch, newcomer, signIn, signOut, until } from './browser.mjs';
import { Demo } from './demo.mjs';
import { Elsewhere } from './elsewhere.mjs';

const SECRET = 'the spare key is under the mat';
/** Words that only somebody who is signed in gets to see. */
const PRIVATE = new RegExp(`${SECRET}|Signed in as|Good to see you|These browsers|This browser`);

let browser, demo, elsewhere;
let notes = 0;
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

/**
 * A browser, and everything that it shows: each time a page is built or comes back, what it says and whether it came
 * back from the back/forward cache. Collected by the page itself, because such a page comes back with its script.
 */
async function observed() {
  const page = await newcomer(browser);
  const context = page.context();
  const shown = new Map();
  await context.addInitScript(() => {
    const page = Math.random();
    const tell = (when, persisted) => {
      const text = document.documentElement.innerText;
      console.log(JSON.stringify({ id: Math.random(), page, when, persisted, url: location.href, text }));
    };
    addEventListener('DOMContentLoaded', () => tell('built', false));
    addEventListener('pageshow', ({ persisted }) => tell('shown', persisted));
  });
  context.on('console', (message) => {
    if (!message.text().startsWith('{"id":')) return;
    // What a page has told is told once more when it comes back; it is not news.
    const entry = JSON.parse(message.text());
    if (!shown.has(entry.id)) shown.set(entry.id, entry);
  });
  return { page, shown: () => [...shown.values()], visits: () => [...shown.values()].filter(isVisit) };
}

function isVisit({ when }) {
  return when === 'shown';
}

/** Presses Back (or Forward), and returns what the browser then shows. */
async function press(key, { visits }, page) {
  const before = visits().length;
  await (key === 'Back' ? page.goBack({ waitUntil: 'commit' }) : page.goForward({ waitUntil: 'commit' }));
  await until(`a page after ${key}`, () => visits().length > before);
  return visits().at(-1);
}

test('the back/forward cache is on in this browser', async () => {
  const { page, ...seen } = await observed();
  await page.goto(`${elsewhere.origin}/one`);
  await page.goto(`${elsewhere.origin}/two`);
  const { persisted, text } = await press('Back', seen, page);
  assert.equal(persisted, true);
  assert.match(text, /\/one/);
});

test('while signed in, Back does bring a private page back from that cache', async () => {
  // Were it otherwise, the tests below would prove nothing.
  const { page, ...seen } = await observed();
  await signIn(page, demo.origin, ALICE);
  await addNote(page, `${SECRET} (${(notes += 1)})`);
  await page.goto(demo.origin);
  const { persisted, text } = await press('Back', seen, page);
  assert.equal(persisted, true);
  assert.match(text, PRIVATE);
});

for (const [where, path] of [
  ["the application's pages", '/notes'],
  ["the gateway's own page", '/.cloakroom/sessions'],
]) {
  test(`after signing out on ${where}, neither Back nor Forward shows anything private`, async () => {
    const { page, ...seen } = await observed();
    await signIn(page, demo.origin, ALICE);
    await addNote(page, `${SECRET} (${(notes += 1)})`);
    await page.goto(demo.origin);
    await page.goto(demo.origin + path);
    await until('the private pages are shown', () => PRIVATE.test(seen.visits().at(-1)?.text));
    await signOut(page);
    await until('the landing page is shown', () => /signed-out$/.test(seen.visits().at(-1)?.url));
    const before = seen.shown().length;
    const left = new Set(seen.shown().filter(({ text }) => PRIVATE.test(text)).map((entry) => entry.page));
    assert.ok(left.size >= 3);
    // Past everything that was seen while signed in.
    for (const key of ['Back', 'Back', 'Back', 'Back', 'Forward', 'Forward']) {
      const now = await press(key, seen, page);
      assert.ok(!left.has(now.page), `${now.url} came back as it was left`);
      assert.doesNotMatch(await page.content(), PRIVATE);
    }
    const after = seen.shown().slice(before);
    assert.ok(after.length >= 6);
    for (const { when, url, text } of after) assert.doesNotMatch(text, PRIVATE, `${url}, when ${when}`);
  });
}

test('what another tab has left behind does not come back there either', async () => {
  const { page, ...seen } = await observed();
  await signIn(page, demo.origin, ALICE);
  await addNote(page, `${SECRET} (${(notes += 1)})`);
  await page.goto(`${elsewhere.origin}/one`);
  const other = await page.context().newPage();
  await other.goto(`${demo.origin}/notes`);
  await signOut(other);
  const before = seen.shown().length;
  const { persisted } = await press('Back', seen, page);
  assert.equal(persisted, false);
  for (const { text } of seen.shown().slice(before)) assert.doesNotMatch(text, PRIVATE);
  assert.doesNotMatch(await page.content(), PRIVATE);
});
