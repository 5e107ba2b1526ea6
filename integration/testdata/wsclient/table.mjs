// The npm package ws as the table of clients needs it; see course.mjs.
import WebSocket from 'ws';
import { closed, failed, follows, headers, report, run } from './course.mjs';

process.on('uncaughtException', failed); // ws throws for some addresses

run((url) => {
  const ws = new WebSocket(url, ['chat'], { followRedirects: follows, headers });
  ws.on('redirect', (to) => report('corrected', { to }));
  ws.on('open', () => report('connected'));
  ws.on('message', (data) => report('message', { data: data.toString() }));
  ws.on('error', (error) => report('error', { message: error.message })); // its close follows
  ws.on('close', (code, reason) => closed(code, reason.toString()));
});
