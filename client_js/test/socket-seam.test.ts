import assert from "node:assert/strict";
import { test } from "node:test";
import { io } from "socket.io-client";
import type { SocketLike } from "../src/socket-like.js";

// What the client uses of socket.io-client although it is private or protected there, as of 4.8.
// `upgrading` of the engine is watched by tests/js/client.test.mjs, with a move to WebSocket that breaks off.
const socket = io("http://127.0.0.1:1", { reconnection: false, autoConnect: false, transports: ["polling"] });

test("_close() of the manager ends an attempt, and leaves the socket to connect again", async () => {
  const { io: manager } = socket as unknown as SocketLike;
  socket.connect();
  manager._close();
  assert.equal(socket.active, true);
  const failed = new Promise<Error>((resolve) => socket.on("connect_error", resolve));
  socket.connect();
  assert.match(String(await failed), /xhr poll error/);
});

test("uri of the manager is the address that was given", () => {
  assert.equal((socket.io as unknown as { uri: string }).uri, "http://127.0.0.1:1");
});

test("_pid of the socket is there when the server keeps its place", () => {
  const { onconnect } = socket as unknown as { onconnect(id: string, pid?: string): void };
  onconnect.call(socket, "id", "place");
  assert.equal((socket as unknown as { _pid?: string })._pid, "place");
  socket.disconnect();
});
