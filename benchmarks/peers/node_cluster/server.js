// Node's socket.io as one of several nodes.  Usage: node server.js alone|redis|streams REDIS_URL PORT
const { createClient } = require("redis");
const { Server } = require("socket.io");
const http = require("http").createServer();

async function connected(url) {
  const client = createClient({ url });
  client.on("error", (error) => {
    throw error; // the measurement is void
  });
  await client.connect();
  return client;
}

const adapters = {
  alone: async () => undefined,
  redis: async (url) => require("@socket.io/redis-adapter").createAdapter(await connected(url), await connected(url)),
  streams: async (url) => require("@socket.io/redis-streams-adapter").createAdapter(await connected(url)),
};

async function main(kind, url, port) {
  const io = new Server(http, { adapter: await adapters[kind](url), perMessageDeflate: false });
  io.on("connection", (socket) => {
    socket.join("all");
    socket.on("echo", (data, ack) => ack(data));
    socket.on("broadcast", (data) => io.to("all").emit("message", data));
  });
  http.listen(+port, "127.0.0.1", 1024);
}

main(...process.argv.slice(2));
