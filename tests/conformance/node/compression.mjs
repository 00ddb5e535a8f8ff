// What the server was asked to compress, both ways, and how many bytes of it went over the connection.
import { createHash } from "node:crypto";
import { ask, chooseClient, connected, run, settled } from "./clients.mjs";

const hash = (data) => createHash("sha256").update(data).digest("hex");

run(async ({ url, client: name, perMessageDeflate }) => {
  const client = await chooseClient(url, name);
  const socket = client.open("/", perMessageDeflate === undefined ? {} : { perMessageDeflate });
  await connected(socket);
  await settled(socket, client);
  const { ws } = socket.io.engine.transport;
  const connection = ws._socket;
  const bytes = () => ({ sent: connection.bytesWritten, received: connection.bytesRead });
  const measured = async (...args) => {
    const before = bytes();
    const [answer] = await ask(socket, ...args);
    const after = bytes();
    return { answer, sent: after.sent - before.sent, received: after.received - before.received };
  };
  const text = JSON.stringify(Array.from({ length: 3000 }, (_, n) => ({ id: n, name: `row ${n}`, text: "zwölf €" })));
  const binary = Buffer.from(Array.from({ length: 100_000 }, (_, n) => (n >> 8) & 255));
  const long = await measured("echo", text);
  const blob = await measured("echo", binary);
  const short = await measured("echo", "x".repeat(500));
  const again = await measured("echo", text);
  const result = {
    extensions: ws.extensions,
    size: Buffer.byteLength(text),
    text: { sent: long.sent, received: long.received, same: long.answer === text && again.answer === text },
    binary: { sent: blob.sent, received: blob.received, same: hash(blob.answer) === hash(binary) },
    short: { sent: short.sent, received: short.received },
  };
  socket.disconnect();
  return result;
});
