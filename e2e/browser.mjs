// The browser, and what a person does in it.

import { chromium } from 'playwright-core';

export const ALICE = { name: 'alice', password: 'wonderland-42' };
export const BOB = { name: 'bob', password: 'builder-42' };

export function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    // Drivers switch the back/forward cache off, and what people use has it on.
    ignoreDefaultArgs: ['--disable-back-forward-cache'],
    args: [
      '--enable-features=BackForwardCache',
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

export async function signIn(page, origin, { name, password }) {
  await page.goto(`${origin}/login?return=/notes`);
  await page.getByLabel('Name').fill(name);
  await page.getByLabel('Password').fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.waitForURL(`${origin}/notes`);
}

export async function addNote(page, text) {
  await page.getByLabel('What do you want to remember?').fill(text);
  await page.getByRole('button', { name: 'Keep it' }).click();
  await page.getByRole('listitem').filter({ hasText: text }).waitFor();
}
