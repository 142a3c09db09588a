// A large upload that is refused by its head, while it is on its way: the browser shows the answer, not a broken connection.

import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { launch, newcomer } from '../browser.mjs';
import { Gateway } from '../gateway.mjs';

const SIZE = 30_000_000;
const PROTECTED = '[[route]]\npath = "/upload"\nrequire = "authenticated"\n';
const FORM = '<form method="post" action="/upload" enctype="multipart/form-data"><input type="file" name="file"><button>Send</button></form>';

let folder, file;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'cloakroom-e2e-'));
  file = path.join(folder, 'file.bin');
  await writeFile(file, Buffer.alloc(SIZE));
});
after(() => rm(folder, { recursive: true, force: true }));

/** An application with a form and a login page; nothing of an upload reaches it. */
function answer(request, response) {
  const body = request.url === '/form' ? FORM : '<h1>Sign in</h1>';
  request.resume().on('end', () => response.writeHead(200, { 'content-type': 'text/html' }).end(`<!doctype html><title>page</title>${body}`));
}

const KINDS = [
  { engine: 'chromium', version: 'HTTP/1.1', certificate: false },
  { engine: 'chromium', version: 'HTTP/2', certificate: true },
  { engine: 'firefox', version: 'HTTP/1.1', certificate: false },
];
for (const { engine, version, certificate } of KINDS) {
  test(`in ${engine}, over ${version}, an upload of 30 MB without a session leads to the login page, and a script sees 401`, async () => {
    const gateway = await Gateway.start(PROTECTED, answer, { certificate });
    const browser = await launch(engine, { args: gateway.trust });
    try {
      const page = await newcomer(browser);
      await page.goto(`${gateway.origin}/form`);
      for (let round = 0; round < 4; round += 1) assert.equal(await page.evaluate(upload, SIZE), 401);
      await page.locator('input').setInputFiles(file);
      await page.getByRole('button', { name: 'Send' }).click();
      await page.waitForURL((url) => url.pathname === '/login' && url.searchParams.has('return'));
      await page.getByRole('heading', { name: 'Sign in' }).waitFor();
    } finally {
      await browser.close();
      await gateway.forget();
    }
  });
}

/** In the page: sends so many bytes; the status of the answer, or what the browser says instead. */
async function upload(size) {
  try {
    return (await fetch('/upload', { method: 'POST', body: new Blob([new Uint8Array(size)]) })).status;
  } catch (error) {
    return String(error);
  }
}
