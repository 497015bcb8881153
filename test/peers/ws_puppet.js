// Node's `ws` on strings: obeys one JSON order a line, and prints one JSON event a line. puppet.py says which.
//
//   node ws_puppet.js server       prints {"event":"listening","port":N}, takes one connection
//   node ws_puppet.js client PORT [SUBPROTOCOL]
'use strict';
const WebSocket = require('ws');

const say = (event) => process.stdout.write(JSON.stringify(event) + '\n');
const base64 = (data) => Buffer.from(data).toString('base64');

function obey(socket, order) {
  const data = Buffer.from(order.data || '', 'base64');
  switch (order.do) {
    case 'text':
    case 'binary':
      socket.send(data, {binary: order.do === 'binary'});
      break;
    case 'fragments':
      order.parts.forEach((part, i) => {
        const last = i === order.parts.length - 1;
        socket.send(Buffer.from(part, 'base64'), {binary: order.binary, fin: last});
        if (order.ping && !last) socket.ping('between ' + (i + 1));
      });
      break;
    case 'ping':
      socket.ping(data);
      break;
    case 'close':
      if (order.code) socket.close(order.code, data);
      else socket.close();
      break;
    case 'vanish':
      socket.terminate();
      break;
  }
}

function converse(socket) {
  socket.on('message', (data, binary) => say({event: binary ? 'binary' : 'text', data: base64(data)}));
  socket.on('pong', (data) => say({event: 'pong', data: base64(data)}));
  socket.on('error', (error) => say({event: 'error', message: error.message}));
  socket.on('close', (code, reason) => {
    say({event: 'closed', code, reason: reason.toString()});
    process.exit(0);
  });
}

// Orders that come before the connection is open wait in the pipe.
function listenToOrders(socket) {
  say({event: 'open', extensions: socket.extensions, protocol: socket.protocol});
  require('readline').createInterface({input: process.stdin}).on('line', (line) => obey(socket, JSON.parse(line)));
}

const [role, port, subprotocol] = process.argv.slice(2);
if (role === 'server') {
  const server = new WebSocket.Server({host: '127.0.0.1', port: 0, perMessageDeflate: true});
  server.on('listening', () => say({event: 'listening', port: server.address().port}));
  server.on('connection', (socket) => {
    server.close();
    converse(socket);
    listenToOrders(socket);
  });
} else {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/`, subprotocol ? [subprotocol] : [], {perMessageDeflate: true});
  converse(socket);
  socket.on('open', () => listenToOrders(socket));
}
