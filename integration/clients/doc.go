// Package clients takes WebSocket clients that people use, each as it comes, through the walkthrough on domains of every
// correction: npm's ws and websocket, Python's websockets, websocket-client and aiohttp, Go's coder/websocket and a browser. Its tests own every process that they start.
package clients
