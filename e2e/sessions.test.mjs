import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { ALICE, BOB, PHONE, addNote, assertSignedOut, launch, newcomer, note, signIn, signOut } from './browser.mjs';
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

/** The entries of the page of sessions, as people read them. */
async function entries(page) {
  await page.goto(`${demo.origin}/sessions`);
  assert.equal(page.url(), `${demo.origin}/.cloakroom/sessions`);
  return page.getByRole('list', { name: 'Sessions' }).getByRole('listitem').allInnerTexts();
}

test('a user finds the session of a second browser and ends it, which signs that browser out', async () => {
  const desk = await newcomer(browser);
  const phone = await newcomer(browser, { userAgent: PHONE });
  await signIn(desk, demo.origin, ALICE);
  await signIn(phone, demo.origin, ALICE);
  const found = await entries(desk);
  assert.equal(found.length, 2);
  assert.match(found.find((entry) => entry.includes('This browser')), /Chrome on Linux/);
  assert.match(found.find((entry) => !entry.includes('This browser')), /Safari on iOS[^]*Active just now[^]*signed in/);
  await desk.getByRole('button', { name: 'End the session of Safari on iOS' }).click();
  await desk.getByText('You are signed in nowhere else').waitFor();
  assert.equal((await entries(desk)).length, 1);
  // The phone still shows its page; what it does next leads to the login page and is not done.
  await phone.getByLabel('What do you want to remember?').fill('too late');
  await phone.getByRole('button', { name: 'Keep it' }).click();
  await phone.getByLabel('Password').waitFor();
  await assertSignedOut(phone, demo.origin);
  await desk.goto(`${demo.origin}/notes`);
  assert.equal(await note(desk, 'too late').count(), 0);
  await signOut(desk);
});

test('all others are ended at once, and sessions of other users stay', async () => {
  const desk = await newcomer(browser);
  await signIn(desk, demo.origin, ALICE);
  const others = [];
  for (let count = 0; count < 2; count += 1) {
    const other = await newcomer(browser, { userAgent: PHONE });
    await signIn(other, demo.origin, ALICE);
    others.push(other);
  }
  const bob = await newcomer(browser);
  await signIn(bob, demo.origin, BOB);
  assert.equal((await entries(bob)).length, 1);
  assert.equal((await entries(desk)).length, 3);
  await desk.getByRole('button', { name: 'End all others' }).click();
  await desk.getByText('You are signed in nowhere else').waitFor();
  for (const other of others) await assertSignedOut(other, demo.origin);
  await bob.goto(`${demo.origin}/notes`);
  await addNote(bob, 'still here');
});

test('the list shows no address of a person in full, and no secret', async () => {
  const page = await newcomer(browser);
  await signIn(page, demo.origin, ALICE);
  const text = (await entries(page)).join('\n');
  assert.match(text, /from 127\.0\.0\.0\/24/);
  assert.doesNotMatch(text, /127\.0\.0\.1/);
});
