import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ALICE, BOB, addNote, assertSignedOut, launch, newcomer, note, signIn, signOut } from './browser.mjs';
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

test('a user signs in, adds a note and sees it, and nobody else does', async () => {
  const alice = await newcomer(browser);
  await signIn(alice, demo.origin, ALICE);
  await addNote(alice, 'the blue door sticks');
  await alice.reload();
  assert.equal(await note(alice, 'the blue door sticks').count(), 1);
  await assertSignedOut(await newcomer(browser), demo.origin);
  const bob = await newcomer(browser);
  await signIn(bob, demo.origin, BOB);
  assert.equal(await note(bob, 'the blue door sticks').count(), 0);
});

test('a wrong password is said to be wrong, and signs nobody in', async () => {
  const page = await newcomer(browser);
  await page.goto(`${demo.origin}/login`);
  await page.getByLabel('Name').fill(ALICE.name);
  await page.getByLabel('Password').fill('not it');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').filter({ hasText: 'wrong' }).waitFor();
  await assertSignedOut(page, demo.origin);
});

test('who was on the way somewhere arrives there after signing in', async () => {
  const page = await newcomer(browser);
  await page.goto(`${demo.origin}/.cloakroom/sessions`);
  assert.equal(new URL(page.url()).pathname, '/login');
  await page.getByLabel('Name').fill(ALICE.name);
  await page.getByLabel('Password').fill(ALICE.password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${demo.origin}/.cloakroom/sessions`);
});

test('two tabs that add a note at the same moment keep both', async () => {
  const one = await newcomer(browser);
  await signIn(one, demo.origin, ALICE);
  const two = await one.context().newPage();
  await two.goto(`${demo.origin}/notes`);
  for (let round = 0; round < 3; round += 1) {
    await Promise.all([addNote(one, `left ${round}`), addNote(two, `right ${round}`)]);
  }
  await one.reload();
  for (let round = 0; round < 3; round += 1) {
    assert.equal(await note(one, `left ${round}`).count(), 1);
    assert.equal(await note(one, `right ${round}`).count(), 1);
  }
});

test('the keyboard alone is enough, and shows where it is', async () => {
  const page = await newcomer(browser);
  await page.goto(`${demo.origin}/login?return=/notes`);
  await tabTo(page, page.getByLabel('Name'));
  await page.keyboard.type(ALICE.name);
  await page.keyboard.press('Tab');
  await page.keyboard.type(ALICE.password);
  await page.keyboard.press('Enter');
  await page.waitForURL(`${demo.origin}/notes`);
  await tabTo(page, page.getByLabel('What do you want to remember?'));
  await page.keyboard.type('typed, not clicked');
  await tabTo(page, page.getByRole('button', { name: 'Keep it' }));
  await page.keyboard.press('Enter');
  await note(page, 'typed, not clicked').waitFor();
  await page.goto(`${demo.origin}/.cloakroom/sessions`);
  await tabTo(page, page.getByRole('button', { name: 'Sign out' }));
  await page.keyboard.press('Enter');
  await page.waitForURL('**/.cloakroom/signed-out');
  await tabTo(page, page.getByRole('link', { name: 'Sign in again' }));
});

test('every page for those who are signed in has a way out', async () => {
  for (const path of ['/', '/notes', '/sessions', '/nowhere']) {
    const page = await newcomer(browser);
    await signIn(page, demo.origin, ALICE);
    await page.goto(demo.origin + path);
    await signOut(page);
    await assertSignedOut(page, demo.origin);
    await page.context().close();
  }
});

/** Presses Tab until the element has the focus, and checks on the way that people can see who has it. */
async function tabTo(page, wanted) {
  const hasFocus = (element) => element === document.activeElement;
  for (let presses = 0; presses < 25; presses += 1) {
    await page.keyboard.press('Tab');
    const outline = await page.evaluate(() => {
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return `${outlineStyle} ${outlineWidth}`;
    });
    assert.equal(outline, 'solid 3px');
    if (await wanted.evaluate(hasFocus)) return;
  }
  assert.fail('the focus never came there');
}
