// Where the programs under test keep sessions: on the server that CLOAKROOM_TEST_STORE names, or else in a SQLite file of their
// folder. On a server each folder has a place of its own, because the tests share it.

import { createHash } from 'node:crypto';

const SERVER = process.env.CLOAKROOM_TEST_STORE;

/**
 * What a program that runs in `folder` needs: lines at the end of its configuration, and its environment. `shared` says whether
 * others could use the same store, so that a pepper and perhaps a migration is needed.
 */
export function storeOf(folder) {
  const { CLOAKROOM_STORE: _, ...env } = process.env;
  if (!SERVER) return { shared: false, config: '', env };
  const name = `e2e_${createHash('sha256').update(folder).digest('hex').slice(0, 16)}`;
  const option = SERVER.startsWith('postgres') ? 'schema' : 'prefix';
  // The address holds a password, and command lines can be seen by others.
  return { shared: true, config: `[store_options]\n${option} = "${name}"\n`, env: { ...env, CLOAKROOM_STORE: SERVER } };
}
