// Starts and stops `cloakroom demo`, in a folder of its own and on a port that the system picks.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';

const PROGRAM = process.env.CLOAKROOM ?? path.resolve(import.meta.dirname, '../target/debug/cloakroom');
const PATIENCE = 30_000;

export class Demo {
  #child;
  #exit;

  // A demo that listens. Without a folder it gets a fresh one, without a port any that is free.
  static async start({ folder, port = 0 } = {}) {
    const demo = new Demo();
    demo.folder = folder ?? (await mkdtemp(path.join(tmpdir(), 'cloakroom-e2e-')));
    const listen = `127.0.0.1:${port}`;
    demo.#child = spawn(PROGRAM, ['demo', '--listen', listen], {
      cwd: demo.folder,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    demo.#exit = once(demo.#child, 'exit').then(([code, signal]) => ({ code, signal }));
    demo.origin = await demo.#address();
    demo.port = Number(new URL(demo.origin).port);
    return demo;
  }

  // It prints its address once it listens, so nobody needs to guess how long that takes.
  async #address() {
    const lines = readline.createInterface({ input: this.#child.stdout });
    const printed = new Promise((resolve) => {
      lines.on('line', (line) => {
        const found = /^Cloakroom demo: (http:\S+)$/.exec(line);
        if (found) resolve(found[1]);
      });
    });
    const ended = this.#exit.then(({ code }) => {
      throw new Error(`the demo ended with ${code} before it listened`);
    });
    ended.catch(() => {});
    try {
      return await within(Promise.race([printed, ended]), 'print its address');
    } catch (error) {
      this.#child.kill('SIGKILL');
      throw error;
    }
  }

  // Presses Ctrl-C, and says how the program ended.
  async stop() {
    this.#child.kill('SIGINT');
    try {
      return await within(this.#exit, 'stop');
    } catch (error) {
      this.#child.kill('SIGKILL');
      throw error;
    }
  }

  async stopAndForget() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the demo did not ${what} in ${PATIENCE} ms`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
