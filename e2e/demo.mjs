// Starts and stops `cloakroom demo`, in a folder of its own and on a port that the system picks.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { storeOf } from './store.mjs';

const PROGRAM = process.env.CLOAKROOM ?? path.resolve(import.meta.dirname, '../target/debug/cloakroom');
const PATIENCE_MS = 30_000;

export class Demo {
  /** What the program logs. */
  log = '';
  #child;
  #exit;

  /** A demo that listens. Without a folder it gets a fresh one, without a port any that is free. */
  static async start({ folder, port = 0 } = {}) {
    const demo = new Demo();
    demo.folder = folder ?? (await mkdtemp(path.join(tmpdir(), 'cloakroom-e2e-')));
    const { config, env } = storeOf(demo.folder);
    const file = path.join(demo.folder, 'demo.toml');
    await writeFile(file, config);
    demo.#child = spawn(PROGRAM, ['demo', '--config', file, '--listen', `127.0.0.1:${port}`], {
      cwd: demo.folder,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    demo.#child.stderr.setEncoding('utf8').on('data', (text) => (demo.log += text));
    // Should a test fail to stop it.
    process.once('exit', () => demo.#child.kill('SIGKILL'));
    demo.#exit = once(demo.#child, 'exit').then(([code, signal]) => ({ code, signal }));
    try {
      demo.origin = await within(demo.#address(), 'say its address');
    } catch (error) {
      demo.#child.kill('SIGKILL');
      throw error;
    }
    demo.port = Number(new URL(demo.origin).port);
    return demo;
  }

  /** It prints its address once it listens, so nobody needs to guess how long that takes. */
  #address() {
    const lines = readline.createInterface({ input: this.#child.stdout });
    return new Promise((resolve, reject) => {
      lines.on('line', (line) => {
        const found = /^Cloakroom demo: (http:\S+)$/.exec(line);
        if (found) resolve(found[1]);
      });
      this.#exit.then(({ code }) => reject(new Error(`the demo ended with ${code}:\n${this.log}`)), reject);
    });
  }

  /** Presses Ctrl-C, and returns how the program ended. */
  async stop() {
    this.#child.kill('SIGINT');
    try {
      return await within(this.#exit, 'stop');
    } catch (error) {
      this.#child.kill('SIGKILL');
      throw error;
    }
  }

  /** For the end of a test: stops it if it runs, and removes its folder. */
  async forget() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) await this.stop();
    await rm(this.folder, { recursive: true, force: true });
  }
}

function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the demo did not ${what} in ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
