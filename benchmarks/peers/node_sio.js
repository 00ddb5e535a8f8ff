// Node's socket.io on its default engine (ws).  Usage: node node_sio.js [--compression] PORT
const { Server } = require("socket.io");
const http = require("http").createServer();
const io = new Server(http, {
  cors: { origin: "*" },
  maxHttpBufferSize: 4 << 20,
  perMessageDeflate: process.argv.includes("--compression") && { threshold: 1024 },
});
io.on("connection", (socket) => {
  socket.on("echo", (data, ack) => ack(data));
  socket.on("slow", async (data, ack) => {
    await new Promise((resolve) => setTimeout(resolve, 100));
    ack(data);
  });
  socket.on("broadcast", (data) => io.emit("message", data));
});
http.listen(+process.argv.at(-1), "127.0.0.1", 1024);
