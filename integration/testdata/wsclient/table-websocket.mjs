// The npm package websocket as the table of clients needs it; see course.mjs.
import websocket from 'websocket';
import { closed, failed, headers, report, run } from './course.mjs';

run((url) => {
  const client = new websocket.client();
  client.on('connectFailed', failed);
  client.on('connect', (ws) => {
    report('connected');
    ws.on('message', (message) => report('message', { data: message.utf8Data }));
    ws.on('error', (error) => report('error', { message: error.message })); // its close follows
    ws.on('close', closed);
  });
  client.connect(url, ['chat'], null, headers);
});
