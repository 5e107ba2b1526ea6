// A client as applications write them: it goes where Location sends it, stays with that
// address, and comes back 1.5 s after a connection ends. One JSON line per event on stdout.
//
//   node client.mjs URL ROUTER_ID [UNIT_TYPE]
import WebSocket from 'ws';

const RECONNECT_MS = 1500;
const [url, routerId, unitType = 'unit_type'] = process.argv.slice(2);
if (!url || !routerId) {
  console.error('usage: node client.mjs URL ROUTER_ID [UNIT_TYPE]');
  process.exit(2);
}

let host = url;

function report(event, fields = {}) {
  process.stdout.write(JSON.stringify({ event, routerId, host, ...fields }) + '\n');
}

function reconnect() {
  report('reconnecting', { delayMs: RECONNECT_MS });
  setTimeout(connect, RECONNECT_MS);
}

function connect() {
  const ws = new WebSocket(host, [], { headers: { routerId, unitType } });

  ws.on('upgrade', (response) => {
    ws.localPort = response.socket.localPort;
  });
  ws.on('open', () => {
    report('connected', { localPort: ws.localPort });
    ws.send(String(Date.now()));
  });
  ws.on('message', (data) => report('message', { data: data.toString() }));
  ws.on('error', (error) => report('error', { message: error.message }));
  ws.on('close', (code, reason) => {
    report('disconnected', { code, reason: reason.toString() });
    reconnect();
  });
  // With this listener ws leaves the answer to us: neither 'error' nor 'close' follows.
  ws.on('unexpected-response', (request, response) => {
    response.resume();
    const { statusCode } = response;
    const { location } = response.headers;
    if (statusCode >= 300 && statusCode < 400 && location) {
      report('redirecting', { status: statusCode, location });
      host = location;
      connect();
      return;
    }
    report('error', { message: `the edge answered ${statusCode}`, status: statusCode });
    reconnect();
  });
}

connect();
