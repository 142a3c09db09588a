import { tryAttacks } from './attacks.mjs';

tryAttacks('chromium');
