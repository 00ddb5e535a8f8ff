// A client whose line breaks, and what it has got in the end; what it misses is sent by another.
import { FACTOR, ask, chooseClient, connected, run, settled, transportOf, until } from "./clients.mjs";
import { startLine } from "./tcp_proxy.mjs";

const COUNT = 600;
const SIZE = 100;
/** So many bytes come between two cuts. */
const STEP = 25_000;

run(async ({ url, client: name, scene }) => {
  const line = await startLine(url);
  const client = await chooseClient(line.url, name);
  const direct = await chooseClient(url, "4:websocket");
  const sender = direct.open();
  await connected(sender);
  const socket = client.open("/", { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 50 });
  const seen = [];
  const lengths = new Set();
  const connects = [];
  socket.on("blob", (blob, ...rest) => {
    seen.push(blob.n);
    lengths.add(rest.map((value) => typeof value).join());
  });
  socket.on("connect", () => connects.push([socket.id, socket.recovered]));
  socket.on("disconnect", () => (line.isDown = false));
  await connected(socket);
  await settled(socket, client);
  const first = socket.id;
  const result = { transport: transportOf(socket) };

  const countFrom = (before) => ({ connected: () => until(() => connects.length > before, () => "a return", 30) });
  const again = () => countFrom(connects.length);

  if (scene === "burst") {
    // Each connection breaks in the middle of what passes, until everything has come. Not while it moves to another
    // transport: the library may then be left with one that it has paused, until a heartbeat is missed.
    const mayBreak = () => socket.connected && transportOf(socket) === client.last;
    const cutter = setInterval(() => {
      if (line.cutAfter === Number.POSITIVE_INFINITY && mayBreak()) line.cutAfter = STEP;
    }, 1);
    await ask(sender, "flood", first, COUNT, SIZE, true);
    await until(
      () => seen.length >= COUNT,
      () => `all blobs; ${seen.length} of ${COUNT} have come, ${connects.length} connects`,
      60,
    );
    clearInterval(cutter);
    line.cutAfter = Number.POSITIVE_INFINITY;
    result.cuts = line.cuts;
  } else if (scene === "takeover") {
    const back = again();
    line.vanish();
    await ask(sender, "flood", first, 50, SIZE, true);
    await back.connected();
    await until(() => seen.length >= 50, () => `all blobs; ${seen.length} have come`);
    // A second time, and without a word between: what the server knows of the first loss must not matter.
    await settled(socket, client);
    const once = again();
    line.vanish();
    await once.connected();
    result.reason = (await ask(sender, "reasons"))[0][first];
    await ask(sender, "flood", first, 50, SIZE, true);
    await until(() => seen.length >= 100, () => `all blobs; ${seen.length} have come`);
    result.numbers = [seen.slice(0, 50), seen.slice(50)].map((part) => part.every((n, i) => n === i));
  } else if (scene === "too late") {
    const back = again();
    socket.io.reconnectionDelay(1500 * FACTOR);
    socket.io.reconnectionDelayMax(2000 * FACTOR);
    // The server, too, has moved to the last transport: it would not notice that the one before is gone.
    await ask(socket, "echo", "here");
    line.cut();
    await until(() => !socket.connected, () => "the loss");
    await ask(sender, "flood", first, 5, SIZE, true);
    await back.connected();
    await ask(sender, "flood", socket.id, 2, SIZE, true);
    await until(() => seen.length >= 2, () => "the new blobs");
  }
  // Whatever came twice would be here by now.
  result.echo = await ask(socket, "echo", "still here");
  result.seen = scene === "burst" ? seen.every((n, i) => n === i) && seen.length : seen.length;
  result.sameId = connects.every(([id]) => id === first);
  result.recovered = connects.map(([, recovered]) => Boolean(recovered));
  result.lengths = [...lengths];
  socket.disconnect();
  sender.disconnect();
  line.close();
  return result;
});
