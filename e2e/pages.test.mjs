// How the pages are made: for phones and desks, in light and dark, for screen readers, without a script.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ALICE, PHONE, addNote, launch, newcomer, signIn } from './browser.mjs';
import { Demo } from './demo.mjs';

const PAGES = [
  { name: 'the front page', path: '/' },
  { name: 'the login page', path: '/login' },
  { name: 'the landing page of a logout', path: '/.cloakroom/signed-out' },
  { name: 'the front page of a user', path: '/', signedIn: true },
  { name: 'the notes', path: '/notes', signedIn: true },
  { name: 'the confirmation of a password', path: '/login', signedIn: true },
  { name: 'the sessions', path: '/.cloakroom/sessions', signedIn: true },
  { name: 'a page that does not exist', path: '/nowhere', signedIn: true },
];

let browser, demo;
const people = {};
before(async () => {
  demo = await Demo.start();
  browser = await launch();
  people.stranger = await newcomer(browser);
  people.user = await newcomer(browser);
  await signIn(people.user, demo.origin, ALICE);
  await addNote(people.user, 'a-very-long-word-'.repeat(20));
  await signIn(await newcomer(browser, { userAgent: PHONE }), demo.origin, ALICE);
});
after(async () => {
  await browser?.close();
  await demo?.forget();
});

for (const { name, path, signedIn } of PAGES) {
  test(`${name} can be read on a phone and a desk, in light and dark, and by a screen reader`, async () => {
    const page = signedIn ? people.user : people.stranger;
    const complaints = [];
    const complain = (message) => {
      // That a page is not there is no complaint about the page.
      if (message.type() === 'error' && message.location().url !== `${demo.origin}/nowhere`) complaints.push(message.text());
    };
    page.on('console', complain);
    const grounds = [];
    for (const colorScheme of ['light', 'dark']) {
      for (const width of [390, 1200]) {
        await page.emulateMedia({ colorScheme });
        await page.setViewportSize({ width, height: 800 });
        await page.goto(demo.origin + path);
        assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), width);
        assert.deepEqual(await page.evaluate(unreadable), []);
      }
      grounds.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    }
    const [light, dark] = grounds.map((ground) => Number(/\d+/.exec(ground)[0]));
    assert.ok(light > 200 && dark < 60, `${grounds}`);
    await assertAccessible(page);
    assert.deepEqual(await page.evaluate(active), []);
    page.off('console', complain);
    // The content security policy refused nothing, and everything was found.
    assert.deepEqual(complaints, []);
  });
}

/** What assistive technology is told, by the browser's own account. */
async function assertAccessible(page) {
  assert.equal(await page.locator('html').getAttribute('lang'), 'en');
  assert.ok((await page.title()).length > 3);
  assert.equal(await page.locator('h1').count(), 1);
  assert.equal(await page.locator('main').count(), 1);
  assert.match(await page.locator('meta[name=viewport]').getAttribute('content'), /^width=device-width, initial-scale=1$/);
  const protocol = await page.context().newCDPSession(page);
  const { nodes } = await protocol.send('Accessibility.getFullAXTree');
  await protocol.detach();
  const named = nodes.filter(({ ignored, role }) => !ignored && /^(button|link|textbox|heading)$/.test(role?.value));
  assert.ok(named.length >= 2);
  for (const { role, name } of named) assert.ok(name?.value?.trim(), `a ${role.value} without a name`);
  const buttons = named.filter(({ role, name }) => role.value === 'button' && !/^Remove$/.test(name.value));
  const names = buttons.map(({ name }) => name.value);
  assert.deepEqual(names, [...new Set(names)], 'two buttons of the same name');
  for (const input of await page.locator('input:visible, textarea:visible').all()) {
    assert.ok(await input.evaluate(({ labels, ariaLabel }) => labels.length > 0 || ariaLabel), 'a field without a label');
  }
}

/** In the page: scripts and inline styles, of which there are none. */
function active() {
  const handlers = [...document.querySelectorAll('*')].filter((element) =>
    element.getAttributeNames().some((attribute) => attribute === 'style' || attribute.startsWith('on')),
  );
  return [...document.querySelectorAll('script, style'), ...handlers].map(({ outerHTML }) => outerHTML);
}

/** In the page: texts whose contrast with what is behind them is below 4.5. */
function unreadable() {
  const parse = (color) => {
    const [red, green, blue, alpha = 1] = color.match(/[\d.]+/g).map(Number);
    return { light: [red, green, blue], alpha };
  };
  const luminance = ({ light }) => {
    const [red, green, blue] = light.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const ground = parse(getComputedStyle(at).backgroundColor);
      if (ground.alpha === 1) return ground;
    }
    return { light: [255, 255, 255] };
  };
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    const texts = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (texts.length === 0 || !element.checkVisibility()) continue;
    const pair = [luminance(parse(getComputedStyle(element).color)), luminance(behind(element))].sort((a, b) => b - a);
    const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (contrast < 4.5) found.push(`${texts[0].data.trim()}: ${contrast.toFixed(2)}`);
  }
  return found;
}
