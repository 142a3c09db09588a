// A site of somebody else, on a port of its own: pages to go to, and pages that do others harm.

import { once } from 'node:events';
import http from 'node:http';

export class Elsewhere {
  #server;

  /** `pages` gives the page for an address, if it has one for it. */
  static async start(pages = () => undefined) {
    const elsewhere = new Elsewhere();
    elsewhere.#server = http.createServer((request, response) => {
      const url = new URL(request.url, 'http://elsewhere');
      response.setHeader('content-type', 'text/html; charset=utf-8');
      const page = url.pathname === '/harm' ? harm(url.searchParams) : pages(url);
      response.end(page ?? `<h1>Elsewhere ${escape(url.pathname)}</h1>`);
    });
    elsewhere.#server.listen(0, '127.0.0.1');
    await once(elsewhere.#server, 'listening');
    elsewhere.port = elsewhere.#server.address().port;
    elsewhere.origin = `http://127.0.0.1:${elsewhere.port}`;
    return elsewhere;
  }

  async stop() {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }
}

/** A form that goes to `to` with the other fields, and a button to send it. */
function harm(fields) {
  const inputs = [...fields]
    .filter(([name]) => name !== 'to')
    .map(([name, value]) => `<input type="hidden" name="${escape(name)}" value="${escape(value)}">`);
  return `<form method="post" action="${escape(fields.get('to'))}">${inputs.join('')}<button>Win a prize</button></form>`;
}

function escape(text) {
  return text.replace(/[&<>"]/g, (letter) => `&#${letter.codePointAt(0)};`);
}
