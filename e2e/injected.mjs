// The second line alone: an application that escapes nothing, behind the gateway. Whatever is put into its pages, none of it runs,
// and the gateway is told. Without the gateway it does run, so that there is something to keep from running.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { launch, newcomer, until } from './browser.mjs';
import { Elsewhere } from './elsewhere.mjs';
import { Gateway } from './gateway.mjs';
import { PAYLOADS, listen } from './payloads.mjs';

const CONFIG = `
[cookie]
name = "__Host-Http-injected"
`;

/** What gets into a page, the directive that keeps it from working, and what the reader does. */
const INJECTED = [
  { name: 'a script', html: '<script>alert(1)</script>', directive: 'script-src-elem' },
  { name: 'a script with a nonce that is none of ours', html: '<script nonce="AAAAAAAAAAAAAAAAAAAAAA">alert(1)</script>', directive: 'script-src-elem' },
  { name: "a script of the site's own", html: '<script src="/alert.js"></script>', directive: 'script-src-elem' },
  { name: 'a script from elsewhere', html: ({ elsewhere }) => `<script src="${elsewhere}/alert.js"></script>`, directive: 'script-src-elem', harm: ({ asked }) => asked.includes('/alert.js') },
  { name: 'a handler', html: '<img src="/none" onerror="alert(1)">', directive: 'script-src-attr' },
  { name: 'a javascript: link', html: '<a href="javascript:alert(1)">Click here</a>', directive: /^script-src|^require-trusted-types-for$/, click: true },
  { name: 'a frame with a script in it', html: '<iframe srcdoc="<script>parent.alert(1)</script>"></iframe>', directive: 'script-src-elem' },
  { name: 'an object', html: ({ elsewhere }) => `<object data="${elsewhere}/x" type="text/html"></object>`, directive: 'object-src', harm: ({ asked }) => asked.includes('/x') },
  { name: 'a base', html: ({ elsewhere }) => `<base href="${elsewhere}/">`, directive: 'base-uri', harm: ({ base, origin }) => !base.startsWith(origin) },
  {
    name: 'a form around a password',
    html: ({ elsewhere }) => `<form method="post" action="${elsewhere}/steal"><input name="password" value="x"><button>Click here</button></form>`,
    directive: 'form-action',
    click: true,
    harm: ({ asked }) => asked.includes('/steal'),
  },
  { name: 'a style', html: '<style>h1 { color: rgb(1, 2, 3) }</style>', directive: 'style-src-elem', harm: ({ color }) => color === 'rgb(1, 2, 3)' },
  { name: 'an image that tells', html: ({ elsewhere }) => `<img src="${elsewhere}/told?secret">`, directive: 'img-src', harm: ({ asked }) => asked.includes('/told') },
  // The page's own script, which has the nonce, is careless.
  { name: "text for the page's own innerHTML", own: 'document.body.innerHTML = "<img src=/none onerror=alert(1)>"', directive: 'require-trusted-types-for' },
  { name: "text for the page's own eval", own: 'eval("alert(1)")', directive: /^(script-src|require-trusted-types-for)$/ },
  { name: "text for the page's own script element", own: 'const script = document.createElement("script"); script.text = "alert(1)"; document.body.append(script);', directive: 'require-trusted-types-for' },
];

/** Puts into its page whatever the address says. */
function application(request, response) {
  const url = new URL(request.url, 'http://application');
  if (url.pathname === '/alert.js') return response.setHeader('content-type', 'text/javascript').end('alert(1)');
  if (url.pathname !== '/') return response.writeHead(404).end();
  const nonce = request.headers['csp-nonce']?.slice(1, -1) ?? '';
  const [html, own] = ['html', 'own'].map((name) => url.searchParams.get(name) ?? '');
  response.setHeader('content-type', 'text/html; charset=utf-8');
  response.end(`<!doctype html><title>Page</title><body><h1>Page</h1>
    <script nonce="${nonce}">window.nonce = document.currentScript.nonce</script>${html}
    <script nonce="${nonce}">try { ${own} } catch {}</script>`);
}

/** Tries everything in one engine. */
export function tryInjecting(engine) {
  let browser, gateway, elsewhere, page;
  const asked = [];
  before(async () => {
    // Browsers report over https only, if they are told of an endpoint by `report-to`.
    gateway = await Gateway.start(CONFIG, application, { certificate: true });
    elsewhere = await Elsewhere.start(({ pathname }) => void asked.push(pathname));
    browser = await launch(engine, { args: [...gateway.trust, '--short-reporting-delay'] });
    page = await newcomer(browser, { ignoreHTTPSErrors: engine === 'firefox' });
    await page.addInitScript(listen);
  });
  after(async () => {
    await browser?.close();
    await elsewhere?.stop();
    await gateway?.forget();
  });

  const address = (origin, fields) => `${origin}/?${new URLSearchParams(fields)}`;
  /** What the page has found out, with its frames. */
  const found = async () => {
    const all = [];
    for (const frame of page.frames()) {
      // A frame whose content was refused has nothing to say.
      const told = frame.evaluate(() => {
        const heading = document.querySelector('h1');
        const color = heading && getComputedStyle(heading).color;
        return { ran, violated, nonce: window.nonce, base: document.baseURI, color };
      });
      all.push(await (frame === page.mainFrame() ? told : told.catch(() => ({ ran: [], violated: [] }))));
    }
    return { ...all[0], ran: all.flatMap(({ ran }) => ran), violated: all.flatMap(({ violated }) => violated) };
  };

  for (const { name, html = '', own = '', directive, click, harm } of INJECTED) {
    test(`${engine}: ${name} that was injected does nothing`, async () => {
      const put = typeof html === 'string' ? html : html({ elsewhere: elsewhere.origin });
      asked.length = 0;
      await page.goto(address(gateway.origin, { html: put, own }));
      if (click) await page.getByText('Click here').click({ noWaitAfter: true });
      const fits = (one) => (typeof directive === 'string' ? one === directive : directive.test(one));
      await until(`${directive} is violated`, async () => (await found()).violated.some(fits));
      const { ran, nonce, base, color } = await found();
      assert.deepEqual(ran, []);
      assert.ok(nonce, "the page's own script runs");
      if (harm) assert.ok(!harm({ base, color, asked, origin: gateway.origin }));
    });
  }

  if (engine === 'chromium') tryList();

  test(`${engine}: what was refused is reported, by the browser itself, and logged with its directive`, async () => {
    const reports = () => gateway.log.split('\n').filter((line) => line.includes('malicious_csp_violation'));
    await page.goto(address(gateway.origin, { html: '<img src="/none" onerror="alert(1)">' }));
    await until('a report arrives', () => reports().some((line) => line.includes('script-src-attr')));
  });

  test(`${engine}: each load has another nonce, and Back and Forward lead to pages whose scripts run`, async () => {
    const nonces = [];
    const visit = async (going) => {
      await going;
      await until('the page is there', () => page.evaluate(() => document.readyState === 'complete' && window.nonce));
      const { nonce, violated } = await found();
      assert.ok(nonce.length >= 22, nonce);
      assert.deepEqual(violated, []);
      nonces.push(nonce);
    };
    await visit(page.goto(address(gateway.origin, { html: '<p>one' })));
    await visit(page.goto(address(gateway.origin, { html: '<p>two' })));
    await visit(page.reload());
    assert.equal(new Set(nonces).size, 3);
    await visit(page.goBack({ waitUntil: 'commit' }));
    await visit(page.goForward({ waitUntil: 'commit' }));
    // A page that comes back as it was has the nonce that it had; one that is loaded again, another. None has that of another page.
    const [one, , two, back, forward] = nonces;
    assert.ok(back !== two && forward !== one && back !== forward);
  });

  /** The whole list takes a while, so one engine does it. */
  function tryList() {
    test(`${engine}: none of ${PAYLOADS.length} payloads runs on a page that has them as they are, and without the policy many do`, async () => {
      const runs = async (origin) => {
        const those = [];
        for (const html of PAYLOADS) {
          await page.goto(address(origin, { html }));
          if ((await found()).ran.length > 0) those.push(html);
        }
        return those;
      };
      assert.deepEqual(await runs(gateway.origin), []);
      const without = await runs(gateway.behind);
      assert.ok(without.length > 30, `only ${without.length} run`);
      console.log(`# ${without.length} of ${PAYLOADS.length} payloads run without the policy, in ${engine}`);
    });
  }
}
