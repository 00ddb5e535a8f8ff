// Stock clients of several servers that are one: what each of them hears of a room, of everybody and for itself.
import { io } from "socket.io-client";

const { urls, count } = JSON.parse(process.argv[2]);
const factor = Number(process.env.TEST_TIMEOUT_FACTOR ?? 1);
const paths = [["polling"], ["websocket"], ["polling", "websocket"]];

const ask = (socket, ...args) => socket.timeout(10_000 * factor).emitWithAck(...args);

function open(number) {
  const socket = io(urls[number % urls.length], {
    transports: paths[number % paths.length],
    reconnection: false,
    forceNew: true,
  });
  const client = { socket, heard: {}, blobs: [], probes: new Set() };
  socket.on("message", (kind, from, n, bytes) => {
    if (kind === "probe") client.probes.add(from);
    else (client.heard[`${kind} ${from}`] ??= []).push(Buffer.isBuffer(bytes) ? n : -1);
  });
  socket.on("blob", ({ n }) => client.blobs.push(n));
  return new Promise((resolve, reject) => {
    socket.on("connect", () => resolve(client));
    socket.on("connect_error", reject);
  });
}

async function until(condition, what) {
  for (const ends = Date.now() + 20_000 * factor; !condition(); ) {
    if (Date.now() > ends) throw new Error(`never: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const clients = await Promise.all(Array.from({ length: 6 }, (_, number) => open(number)));
await Promise.all(clients.map(({ socket }) => ask(socket, "join", "red")));
// A room is heard of at other nodes a moment after it was entered.
const probing = setInterval(() => {
  clients.forEach(({ socket }, from) => socket.emit("room_emit", "red", "probe", from));
}, 50);
await until(
  () => clients.every(({ probes }) => probes.size === clients.length),
  () => `everybody hears everybody: ${clients.map(({ probes }) => probes.size)}`,
);
clearInterval(probing);

for (let n = 0; n < count; n++) {
  clients.forEach(({ socket }, from) => {
    socket.emit("room_emit", "red", "room", from, n, Buffer.from([n & 255]));
    socket.emit("broadcast", "all", from, n, Buffer.from([0, 255]));
  });
}
await Promise.all(
  clients.map(({ socket }, from) => ask(socket, "flood", clients[(from + 1) % clients.length].socket.id, count, 10, false)),
);
const total = ({ heard, blobs }) => Object.values(heard).reduce((sum, { length }) => sum + length, blobs.length);
await until(
  () => clients.every((client) => total(client) >= count * (clients.length * 2 + 1)),
  () => `all events: ${clients.map(total)}`,
);
await Promise.all(clients.map(({ socket }) => ask(socket, "echo")));

console.log(JSON.stringify({ heard: clients.map(({ heard }) => heard), blobs: clients.map(({ blobs }) => blobs) }));
clients.forEach(({ socket }) => socket.disconnect());
