// The stock client with socket.io-msgpack-parser, against a server with serializer="msgpack".
import msgpackParser from "socket.io-msgpack-parser";
import { ask, chooseClient, connected, next, run, settled } from "./clients.mjs";

run(async ({ url, client: name }) => {
  const client = await chooseClient(url, name);
  const socket = client.open("/", { parser: msgpackParser });
  socket.on("question", (...args) => args.pop()({ got: args }, Buffer.from([1, 2, 3])));
  await connected(socket);
  await settled(socket, client);
  const result = {};
  result.text = await ask(socket, "echo", "zwölf € 😀", 1, -1, 2.5, 4294967296, true, null, { a: [{}] });
  result.undefined = await ask(socket, "echo", undefined, 1);
  result.binary = await ask(socket, "echo", Buffer.from([0, 30, 255, 98]), { a: [Buffer.from("é")] });
  const pushed = next(socket, "binary");
  socket.emit("push_binary", 70_000);
  result.pushed = (await pushed)[0].buffer.byteLength;
  result.asked = await ask(socket, "ask", "what?", Buffer.from([9]));
  const news = socket.io.socket("/news");
  await connected(news);
  result.news = await ask(news, "echo", "in /news");
  const refused = client.open("/", { parser: msgpackParser, auth: { refuse: true } });
  result.refused = await connected(refused).then(
    () => "connected",
    (error) => [error.message, error.data],
  );
  refused.disconnect();
  const ticks = [];
  socket.on("tick", ({ n }) => ticks.push(n));
  socket.emit("burst", 100);
  await ask(socket, "burst", 0);
  result.ticks = ticks;
  socket.disconnect();
  return result;
});
