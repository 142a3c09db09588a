import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALICE, addNote, launch, newcomer, note, signIn } from './browser.mjs';
import { Demo } from './demo.mjs';

test('Ctrl-C ends the demo in order, and a second start finds sessions and notes still there', async (t) => {
  const browser = await launch();
  t.after(() => browser.close());
  const first = await Demo.start();
  let second;
  t.after(async () => {
    await second?.stop();
    await first.forget();
  });
  const page = await newcomer(browser);
  await signIn(page, first.origin, ALICE);
  await addNote(page, 'outlives the program');
  // The browser is still there, with connections that it keeps open.
  const began = Date.now();
  assert.deepEqual(await first.stop(), { code: 0, signal: null });
  assert.ok(Date.now() - began < 10_000);
  await assert.rejects(fetch(first.origin));

  second = await Demo.start({ folder: first.folder, port: first.port });
  assert.equal(second.origin, first.origin);
  await page.goto(`${second.origin}/notes`);
  assert.equal(await note(page, 'outlives the program').count(), 1);
  await addNote(page, 'and more can be added');
});

test('Ctrl-C ends a demo that no browser has visited', async (t) => {
  const demo = await Demo.start();
  t.after(() => demo.forget());
  assert.equal((await fetch(demo.origin)).status, 200);
  assert.deepEqual(await demo.stop(), { code: 0, signal: null });
});
