// Starts `cloakroom serve` with a configuration of one's own, in front of an application of one's own.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';
import readline from 'node:readline';
import { promisify } from 'node:util';
import { storeOf } from './store.mjs';

const PROGRAM = process.env.CLOAKROOM ?? path.resolve(import.meta.dirname, '../target/debug/cloakroom');
const PATIENCE_MS = 30_000;
const run = promisify(execFile);

export class Gateway {
  /** What the program logs. */
  log = '';
  #child;
  #application;
  #folder;

  /** A gateway in front of `handler`, a request listener of Node's. `config` is TOML without `listen` and `upstream`. */
  static async start(config, handler) {
    const gateway = new Gateway();
    gateway.#application = http.createServer(handler).listen(0, '127.0.0.1');
    await once(gateway.#application, 'listening');
    gateway.#folder = await mkdtemp(path.join(tmpdir(), 'cloakroom-e2e-'));
    const upstream = `upstream = "http://127.0.0.1:${gateway.#application.address().port}"\n`;
    const store = storeOf(gateway.#folder);
    const options = { cwd: gateway.#folder, env: store.env };
    const pepper = store.shared ? 'pepper_file = "pepper"\n' : '';
    const file = path.join(gateway.#folder, 'cloakroom.toml');
    await writeFile(file, upstream + pepper + config + store.config);
    if (store.shared) {
      await run(PROGRAM, ['pepper', 'new', 'pepper'], options);
      await run(PROGRAM, ['migrate', '--config', file], options);
    }
    gateway.#child = spawn(PROGRAM, ['serve', '--config', file, '--listen', '127.0.0.1:0'], {
      ...options,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    process.once('exit', () => gateway.#child.kill('SIGKILL'));
    gateway.#child.stderr.setEncoding('utf8').on('data', (text) => (gateway.log += text));
    try {
      gateway.origin = await gateway.#address();
    } catch (error) {
      await gateway.forget();
      throw error;
    }
    return gateway;
  }

  #address() {
    return new Promise((resolve, reject) => {
      readline.createInterface({ input: this.#child.stdout }).on('line', (line) => {
        const found = /^cloakroom: listening on (\S+), /.exec(line);
        if (found) resolve(`http://${found[1]}`);
      });
      this.#child.once('exit', (code) => reject(new Error(`the gateway ended with ${code}:\n${this.log}`)));
      setTimeout(() => reject(new Error(`the gateway did not say its address:\n${this.log}`)), PATIENCE_MS).unref();
    });
  }

  /** For the end of a test. */
  async forget() {
    this.#application.closeAllConnections();
    this.#application.close();
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGINT');
      await once(this.#child, 'exit');
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}
