// Starts `cloakroom serve` with a configuration of one's own, in front of an application of one's own.

import { execFile, spawn } from 'node:child_process';
import { X509Certificate, createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
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
  /** Where the application listens, that nobody but the gateway should ask. */
  behind;
  #child;
  #application;
  #folder;
  #scheme = 'http';
  /** With a certificate: what a Chromium is started with, so that it trusts it as any other. */
  trust = [];

  /**
   * A gateway in front of `handler`, a request listener of Node's, and `upgrade`, its listener for WebSockets. `config` is TOML
   * without `listen` and `upstream`. With `certificate`, which needs openssl, it is reached over https, under the same address.
   */
  static async start(config, handler, { upgrade, certificate = false } = {}) {
    const gateway = new Gateway();
    gateway.#application = http.createServer(handler);
    if (upgrade) gateway.#application.on('upgrade', upgrade);
    gateway.#application.listen(0, '127.0.0.1');
    await once(gateway.#application, 'listening');
    gateway.#folder = await mkdtemp(path.join(tmpdir(), 'cloakroom-e2e-'));
    gateway.behind = `http://127.0.0.1:${gateway.#application.address().port}`;
    const upstream = `upstream = "${gateway.behind}"\n`;
    const store = storeOf(gateway.#folder);
    const options = { cwd: gateway.#folder, env: store.env };
    const pepper = store.shared ? 'pepper_file = "pepper"\n' : '';
    const file = path.join(gateway.#folder, 'cloakroom.toml');
    const port = certificate ? await freePort() : 0;
    const certified = certificate ? await gateway.#certify(port) : { top: '', tables: '' };
    await writeFile(file, upstream + pepper + certified.top + config + certified.tables + store.config);
    if (store.shared) {
      await run(PROGRAM, ['pepper', 'new', 'pepper'], options);
      await run(PROGRAM, ['migrate', '--config', file], options);
    }
    gateway.#child = spawn(PROGRAM, ['serve', '--config', file, '--listen', `127.0.0.1:${port}`], {
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

  /** Makes a certificate. Returns what the configuration says of it, before and after its other tables. */
  async #certify(port) {
    this.#scheme = 'https';
    const [cert, key] = ['cert.pem', 'key.pem'].map((name) => path.join(this.#folder, name));
    const asked = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2', '-subj', '/CN=127.0.0.1'];
    await run('openssl', ['req', ...asked, '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert]);
    const spki = new X509Certificate(await readFile(cert)).publicKey.export({ type: 'spki', format: 'der' });
    this.trust = [`--ignore-certificate-errors-spki-list=${createHash('sha256').update(spki).digest('base64')}`];
    return { top: `origin = "https://127.0.0.1:${port}"\n`, tables: `\n[tls]\ncert = "${cert}"\nkey = "${key}"\n` };
  }

  #address() {
    return new Promise((resolve, reject) => {
      readline.createInterface({ input: this.#child.stdout }).on('line', (line) => {
        const found = /^cloakroom: listening on (\S+), /.exec(line);
        if (found) resolve(`${this.#scheme}://${found[1]}`);
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

/** A port that nobody listens on just now: the origin stands in the configuration, so it has to be known before. */
async function freePort() {
  const server = http.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}
