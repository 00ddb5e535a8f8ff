// Half a megabyte each way, as text and as binary.
import { createHash } from "node:crypto";
import { ask, chooseClient, connected, run, settled } from "./clients.mjs";

const SIZE = 500_000;
const hash = (data) => createHash("sha256").update(Buffer.from(data)).digest("hex");

run(async ({ url, client: name }) => {
  const client = await chooseClient(url, name);
  const socket = client.open();
  const disconnects = [];
  socket.on("disconnect", (reason) => disconnects.push(reason));
  await connected(socket);
  await settled(socket, client);
  const text = Array.from({ length: SIZE }, (_, n) => String.fromCharCode(32 + (n % 90))).join("");
  // As base64 it is two thirds of a megabyte, below the limit of one.
  const binary = Buffer.from(Array.from({ length: SIZE }, (_, n) => (n * 7919) & 255));
  const [textBack] = await ask(socket, "echo", text);
  const [binaryBack] = await ask(socket, "echo", binary);
  const [made] = await ask(socket, "binary", SIZE);
  const dropped = [...disconnects];
  socket.disconnect();
  return {
    text: textBack === text,
    binary: hash(binaryBack) === hash(binary),
    made: made.buffer.byteLength,
    disconnects: dropped,
  };
});
