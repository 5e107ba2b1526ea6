// The npm package ws as the table of clients needs it, one JSON line per event on stdout.
//
//   node table.mjs MODE URL ROUTER_ID [cookie]
//
// MODE: follow (redirects, by the package itself), plain (does nothing about a wrong unit), close (goes where a Close 4302
// says), locate (asks first), once (follow, but no second connection). With cookie the routerId is one, which the package
// drops when it follows a redirect to another host, and no header field.
import WebSocket from 'ws';

const AGAIN_MS = 200;
const [mode, entry, routerId, source] = process.argv.slice(2);
const headers = source === 'cookie' ? { Cookie: `routerId=${encodeURIComponent(routerId)}` } : { routerId };
let url = entry;

function report(event, fields = {}) {
  process.stdout.write(JSON.stringify({ event, ...fields }) + '\n');
}

function again() {
  if (mode !== 'once') setTimeout(connect, AGAIN_MS);
}

async function connect() {
  if (mode === 'locate') {
    try {
      const question = entry.replace(/^ws/, 'http') + `.unitgate/locate?routerId=${routerId}`;
      url = (await (await fetch(question)).json()).url;
      report('corrected', { to: url });
    } catch (error) {
      report('error', { message: String(error) });
      again();
      return;
    }
  }
  const followRedirects = mode === 'follow' || mode === 'once';
  const ws = new WebSocket(url, ['chat'], { followRedirects, headers });
  ws.on('redirect', (to) => report('corrected', { to }));
  ws.on('open', () => report('connected'));
  ws.on('message', (data) => report('message', { data: data.toString() }));
  ws.on('error', (error) => report('error', { message: error.message }));
  ws.on('close', (code, reason) => {
    report('closed', { code, reason: reason.toString() });
    if (code === 4302 && mode === 'close') {
      const to = new URL(reason.toString());
      const own = new URL(url);
      url = `${to.protocol}//${to.host}${own.pathname}${own.search}`;
      report('corrected', { to: url });
      connect();
      return;
    }
    again();
  });
}

process.on('uncaughtException', (error) => { // ws throws for some addresses
  report('error', { message: String(error) });
  again();
});
connect();
