// socket.io on Bun's own HTTP and WebSocket server.  Usage: bun bun_sio.js PORT
// The packages are those of benchmarks/bun, which is not above this file.
const { createRequire } = require("module");
const from = createRequire(require("path").join(__dirname, "..", "bun", "package.json"));
const { Server: Engine } = from("@socket.io/bun-engine");
const { Server } = from("socket.io");
const io = new Server();
const engine = new Engine({ path: "/socket.io/", maxHttpBufferSize: 4 << 20 });
io.bind(engine);
io.on("connection", (socket) => {
  socket.on("echo", (data, ack) => ack(data));
  socket.on("broadcast", (data) => io.emit("message", data));
});
Bun.serve({ ...engine.handler(), port: +process.argv.at(-1), hostname: "127.0.0.1" });
