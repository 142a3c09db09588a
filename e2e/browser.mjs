// The browser, and what people do in it.

import assert from 'node:assert/strict';
import { chromium, firefox } from 'playwright-core';

export const ALICE = { name: 'alice', password: 'wonderland-42' };
export const BOB = { name: 'bob', password: 'builder-42' };
/** A second device, so that the lists of sessions show two. */
export const PHONE =
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1';

// A test that takes too long is told to end. The driver would only close its browser then, and what else the test started live on.
process.once('SIGTERM', () => process.exit(143));

/** A browser by its name: `chromium` or `firefox`, each as Debian has it. */
export function launch(engine = 'chromium', options = {}) {
  return engine === 'firefox' ? launchFirefox() : launchChromium(options);
}

function launchChromium({ args = [] }) {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // The driver switches the back/forward cache off; people have it on.
    ignoreDefaultArgs: ['--disable-back-forward-cache'],
    args: [
      '--enable-features=BackForwardCache',
      // It opens pages of ours only, and many a container has no sandbox to offer.
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...args,
    ],
  });
}

/**
 * A Firefox that nobody has changed, by WebDriver BiDi. The driver calls this channel experimental, and its releases from 1.65 on
 * ask for a command that this Firefox does not have, which is why package.json pins one before it.
 */
function launchFirefox() {
  return firefox.launch({
    channel: 'moz-firefox',
    executablePath: process.env.FIREFOX ?? '/usr/bin/firefox-esr',
    timeout: 60_000,
  });
}

/** Another browser of a person: nothing is shared with the ones before. */
export async function newcomer(browser, options) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(15_000);
  return context.newPage();
}

export async function signIn(page, origin, { name, password }) {
  await page.goto(`${origin}/login?return=/notes`);
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${origin}/notes`);
}

export async function signOut(page) {
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL('**/.cloakroom/signed-out');
}

export async function addNote(page, text) {
  await page.getByLabel('What do you want to remember?').fill(text);
  await page.getByRole('button', { name: 'Keep it' }).click();
  await note(page, text).waitFor();
}

export function note(page, text) {
  return page.getByRole('listitem').filter({ hasText: text });
}

/** Going to the notes leads whoever is not signed in to the login page, and shows no note. */
export async function assertSignedOut(page, origin) {
  await page.goto(`${origin}/notes`);
  assert.equal(new URL(page.url()).pathname, '/login');
  await page.getByLabel('Password').waitFor();
}

/** Waits until something is so, and fails with what was expected if it never is. */
export async function until(expected, isSo) {
  const end = Date.now() + 15_000;
  while (!(await isSo())) {
    assert.ok(Date.now() < end, `never happened: ${expected}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
