import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "../src/client.js";
import { ServerSocket } from "./support/server-socket.js";

test("closing rejects what has not been sent yet, too", async () => {
  const socket = new ServerSocket();
  socket.isAway = true;
  const client = new Client(socket);
  const dropped: string[] = [];
  client.outbox.onDropped((error) => dropped.push(error.code));
  const answer = client.emit("say", "hello");
  client.close();
  assert.deepEqual(dropped, ["closed"]);
  await assert.rejects(answer, { code: "closed" });
  assert.deepEqual([client.outbox.size, client.outbox.bytes], [0, 0]);
});
