import { tryAttacks } from '../attacks.mjs';

tryAttacks('firefox');
