// What people are shown when something does not work: the way on is on the page.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, newcomer } from './browser.mjs';
import { Gateway } from './gateway.mjs';

let browser, gateway;
/** What the application has saved, and as whose. */
const saved = [];

before(async () => {
  browser = await launch();
  gateway = await Gateway.start('[[route]]\npath = "/app"\nrequire = "authenticated"\n', answer);
});
after(async () => {
  await browser?.close();
  await gateway?.forget();
});

/** An application with a login for anybody, a form, and a link named "Sign out". */
function answer(request, response) {
  const { pathname, searchParams } = new URL(request.url, 'http://application');
  const user = /^"(.*)"$/.exec(request.headers['session-subject'])?.[1];
  const token = /^"(.*)"$/.exec(request.headers['session-csrf-token'])?.[1];
  const page = (body, fields = {}) =>
    response.writeHead(200, { 'content-type': 'text/html', ...fields }).end(`<!doctype html><title>page</title>${body}`);
  const hidden = `<input type="hidden" name="cloakroom_csrf" value="${token}">`;
  request.resume().on('end', () => {
    if (pathname === '/login' && request.method === 'POST') {
      const location = searchParams.get('return') ?? '/app/edit';
      return response.writeHead(303, { 'session-login': `"${searchParams.get('user')}"`, location }).end();
    }
    if (pathname === '/login') {
      const login = (name) =>
        `<form method="post" action="/login?${new URLSearchParams({ user: name, return: searchParams.get('return') ?? '/app/edit' })}">
         ${hidden}<button>I am ${name}</button></form>`;
      return page(login('alice') + login('bob'), { 'session-csrf': '?1' });
    }
    if (pathname === '/app/edit') {
      const form = `<form method="post" action="/app/save">${hidden}<input name="text" aria-label="Text"><button>Save</button></form>`;
      return page(`<h1>${user}'s page</h1><a href="/bye">Sign out</a>${form}`);
    }
    if (pathname === '/app/save' && request.method === 'POST') {
      saved.push(user);
      return page('saved');
    }
    if (pathname === '/app/save') return response.writeHead(405).end('POST only');
    if (pathname === '/bye') return response.writeHead(303, { 'session-logout': 'this', location: '/' }).end();
    return page('<h1>The front page</h1>');
  });
}

async function become(page, name) {
  await page.goto(`${gateway.origin}/login`);
  await page.getByRole('button', { name: `I am ${name}` }).click();
  await page.getByRole('heading', { name: `${name}'s page` }).waitFor();
}

test('a form of the account before is not saved, and its page offers to load it again', async () => {
  const page = await newcomer(browser);
  await become(page, 'alice');
  const other = await page.context().newPage();
  await become(other, 'bob');
  await page.getByLabel('Text').fill('mine');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('heading', { name: 'This page is out of date' }).waitFor();
  assert.deepEqual(saved, []);
  await page.getByRole('link', { name: 'Load the page again' }).click();
  await page.getByRole('heading', { name: "bob's page" }).waitFor();
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('saved').waitFor();
  assert.deepEqual(saved.splice(0), ['bob']);
});

test('a link named "Sign out" asks, and its one button signs out', async () => {
  const page = await newcomer(browser);
  await become(page, 'alice');
  await page.getByRole('link', { name: 'Sign out' }).click();
  await page.getByRole('heading', { name: 'Sign out?' }).waitFor();
  assert.equal(await page.getByRole('button').count(), 1);
  await page.goto(`${gateway.origin}/app/edit`);
  await page.getByRole('heading', { name: "alice's page" }).waitFor();
  await page.getByRole('link', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.waitForURL(`${gateway.origin}/.cloakroom/signed-out`);
  await page.getByRole('heading', { name: 'You are signed out' }).waitFor();
  await page.goto(`${gateway.origin}/app/edit`);
  assert.equal(new URL(page.url()).pathname, '/login');
});

test('who sends a form after the session ended comes back to its page, and to nothing that takes POST only', async () => {
  const page = await newcomer(browser);
  await become(page, 'alice');
  await page.getByLabel('Text').fill('an hour of work');
  await page.context().clearCookies();
  await page.getByRole('button', { name: 'Save' }).click();
  await page.waitForURL(({ pathname }) => pathname === '/login');
  await page.getByRole('button', { name: 'I am alice' }).click();
  await page.waitForURL(`${gateway.origin}/app/edit`);
  await page.getByRole('heading', { name: "alice's page" }).waitFor();
  assert.deepEqual(saved, []);
});

test('what the gateway says can be read, and leads on', async () => {
  const page = await newcomer(browser);
  const answer = await page.goto(`${gateway.origin}/.cloakroom/nothing`);
  assert.equal(answer.status(), 404);
  assert.equal(await page.locator('html').getAttribute('lang'), 'en');
  await page.getByRole('heading', { name: 'There is no such page' }).waitFor();
  await page.getByRole('link', { name: 'Front page' }).click();
  await page.getByRole('heading', { name: 'The front page' }).waitFor();
});
