import { tryInjecting } from '../injected.mjs';

tryInjecting('chromium');
