// An origin as applications write them: it comes to a handshake only when it has asked another
// service who the user is, and until then nobody listens for the socket's errors. One JSON line
// per event on stdout: listening, asked, opened, closed.
//
//   node origin.mjs LIBRARY DELAY_MS      LIBRARY is websocket or ws
//
// The path says what becomes of a handshake: /never is not answered, /deny is refused, everything
// else is accepted; all after the delay, /slow after five times that.
import { createServer } from 'node:http';
import WebSocket from 'websocket';
import { WebSocketServer } from 'ws';

const [library, delay] = [process.argv[2], Number(process.argv[3])];

function report(event, fields = {}) {
  process.stdout.write(JSON.stringify({ event, ...fields }) + '\n');
}

function follow(routerId, connection) {
  report('opened', { routerId });
  connection.on('close', (code) => report('closed', { routerId, code }));
}

// later runs what is to become of a handshake, once it is known who the user is.
function later(request, accept, deny) {
  const path = request.url.split('?')[0];
  report('asked', { routerId: request.headers.routerid, path });
  if (path === '/never') return;
  setTimeout(path === '/deny' ? deny : accept, path === '/slow' ? 5 * delay : delay);
}

const server = createServer();

if (library === 'websocket') {
  new WebSocket.server({ httpServer: server }).on('request', (request) => {
    const { routerid } = request.httpRequest.headers;
    later(request.httpRequest, () => follow(routerid, request.accept(null, request.origin)), () => request.reject(401));
  });
} else {
  const sockets = new WebSocketServer({ noServer: true });
  server.on('upgrade', (request, socket, head) => {
    later(
      request,
      () => sockets.handleUpgrade(request, socket, head, (ws) => follow(request.headers.routerid, ws)),
      () => socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno'),
    );
  });
}

server.listen(0, '127.0.0.1', () => report('listening', { port: server.address().port }));
