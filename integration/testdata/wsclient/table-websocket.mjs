// The npm package websocket as the table of clients needs it, one JSON line per event on stdout.
//
//   node table-websocket.mjs MODE URL ROUTER_ID
//
// For MODE see table.mjs.
import websocket from 'websocket';

const AGAIN_MS = 200;
const [mode, entry, routerId] = process.argv.slice(2);
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
  const client = new websocket.client();
  client.on('connectFailed', (error) => {
    report('error', { message: String(error) });
    again();
  });
  client.on('connect', (ws) => {
    report('connected');
    ws.on('message', (message) => report('message', { data: message.utf8Data }));
    ws.on('error', (error) => report('error', { message: error.message }));
    ws.on('close', (code, reason) => {
      report('closed', { code, reason });
      if (code === 4302 && mode === 'close') {
        const to = new URL(reason);
        const own = new URL(url);
        url = `${to.protocol}//${to.host}${own.pathname}${own.search}`;
        report('corrected', { to: url });
        connect();
        return;
      }
      again();
    });
  });
  client.connect(url, ['chat'], null, { routerId });
}

connect();
