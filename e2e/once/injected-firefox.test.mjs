import { tryInjecting } from '../injected.mjs';

tryInjecting('firefox');
