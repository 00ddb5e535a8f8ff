// Node's socket.io on its default engine (ws).  Usage: node node_sio.js PORT
const { Server } = require("socket.io");
const http = require("http").createServer();
const io = new Server(http, { cors: { origin: "*" } });
io.on("connection", (socket) => {
  socket.on("echo", (data, ack) => ack(data));
  socket.on("broadcast", (data) => io.emit("message", data));
});
http.listen(+process.argv[2], "127.0.0.1", 1024);
