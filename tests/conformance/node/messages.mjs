// Everything one client can say and hear, in one namespace and in two.
import { ask, chooseClient, connected, next, run, settled, transportOf } from "./clients.mjs";

run(async ({ url, client: name, options = {} }) => {
  const client = await chooseClient(url, name);
  const socket = client.open("/", options);
  const result = {};
  socket.on("question", (...args) => args.pop()({ got: args }, Buffer.from([1, 2, 3])));
  await connected(socket);
  await settled(socket, client);

  result.text = await ask(socket, "echo", "hello", 1, 2.5, true, null, { a: [{}] }, []);
  result.nothing = await ask(socket, "echo");
  result.unicode = await ask(socket, "echo", "zwölf € 😀 \u001e \u2028 \u0000 \"\\");
  result.binary = await ask(socket, "echo", Buffer.from([0, 30, 255, 98]), new Uint8Array([7]).buffer, Buffer.alloc(0));
  result.nested = await ask(socket, "echo", { a: [Buffer.from("é"), { b: Buffer.from([0]) }], c: "b" });
  result.made = await ask(socket, "binary");
  const pushed = next(socket, "binary");
  socket.emit("push_binary", 70_000);
  const [{ buffer, nested }] = await pushed;
  result.pushed = { bytes: buffer.byteLength, last: new Uint8Array(buffer)[buffer.byteLength - 1], nested };
  result.asked = await ask(socket, "ask", "what?", Buffer.from([9]));
  result.who = await ask(socket, "who");
  result.transport = transportOf(socket);

  // Another namespace on the same connection, and one that is not there.
  const news = socket.io.socket("/news", { auth: { token: "t" } });
  await connected(news);
  result.news = await ask(news, "echo", Buffer.from([5]), "in /news");
  result.sameConnection = news.io.engine === socket.io.engine;
  const nowhere = socket.io.socket("/nowhere");
  result.nowhere = await connected(nowhere).then(
    () => "connected",
    (error) => error.message,
  );
  nowhere.disconnect();
  const refused = client.open("/", { ...options, auth: { refuse: true } });
  result.refused = await connected(refused).then(
    () => "connected",
    (error) => [error.message, error.data],
  );
  refused.disconnect();

  // Rooms, and everybody.
  const other = client.open("/", options);
  await connected(other);
  const heard = { socket: [], other: [] };
  socket.on("message", (...args) => heard.socket.push(args));
  other.on("message", (...args) => heard.other.push(args));
  await ask(other, "join", "red");
  await ask(socket, "room_emit", "red", "only other");
  await ask(socket, "join", "red");
  await ask(other, "leave", "red");
  await ask(other, "room_emit", "red", "only socket");
  const both = Promise.all([next(socket, "message"), next(other, "message")]);
  socket.emit("broadcast", "both", Buffer.from([1]));
  await both;
  // Messages of one connection keep their order: these have come by now.
  await Promise.all([ask(socket, "echo"), ask(other, "echo")]);
  result.heard = heard;

  // A burst, and what comes out of it.
  const ticks = [];
  socket.on("tick", ({ n, pad }) => ticks.push([n, pad.length]));
  socket.emit("burst", 300, 50);
  await ask(socket, "burst", 0);
  result.ticks = ticks;
  other.disconnect();
  socket.disconnect();
  return result;
});
