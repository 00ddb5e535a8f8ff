// How connections end: what each side is told, and who comes back.
import { FACTOR, ask, chooseClient, connected, next, run, settled, transportOf } from "./clients.mjs";

run(async ({ url, client: name }) => {
  const client = await chooseClient(url, name);
  const watcher = client.open();
  await connected(watcher);
  const result = {};

  async function reasonOf(sid) {
    const ends = Date.now() + 8_000 * FACTOR;
    while (Date.now() < ends) {
      const [reasons] = await ask(watcher, "reasons");
      if (sid in reasons) return reasons[sid];
    }
    return "the server never knew";
  }
  async function fresh(options) {
    const socket = client.open("/", options);
    await connected(socket);
    await settled(socket, client);
    return socket;
  }

  // The server ends the session below; the client comes back by itself.
  let socket = await fresh({ reconnection: true, reconnectionDelay: 20, randomizationFactor: 0 });
  let { id } = socket;
  let gone = next(socket, "disconnect");
  let back = next(socket, "connect");
  socket.emit("close_engine");
  result.engineClose = { client: (await gone)[0], server: await reasonOf(id) };
  await back;
  await settled(socket, client);
  result.reconnected = {
    otherId: socket.id !== id,
    transport: transportOf(socket),
    echo: await ask(socket, "echo", "again"),
  };
  socket.disconnect();

  // The connection breaks; the client comes back as well.
  socket = await fresh({ reconnection: true, reconnectionDelay: 20, randomizationFactor: 0 });
  ({ id } = socket);
  back = next(socket, "connect");
  gone = next(socket, "disconnect");
  socket.io.engine.close();
  result.clientEngineClose = { client: (await gone)[0], server: await reasonOf(id) };
  await back;
  result.echoAfter = await ask(socket, "echo", "again");
  socket.disconnect();

  // The same in the very moment of an upgrade: the server must hear of it, and not only by the heartbeat.
  if (client.path.length > 1) {
    socket = client.open("/");
    const { engine } = socket.io;
    gone = next(socket, "disconnect");
    let isUpgraded = false;
    // Whatever comes last, the upgrade or the namespace. A microtask later, since inside the event "upgrade" the
    // engine still counts as upgrading.
    const close = () => isUpgraded && socket.connected && queueMicrotask(() => engine.close());
    engine.once("upgrade", () => {
      isUpgraded = true;
      close();
    });
    socket.once("connect", () => {
      ({ id } = socket);
      close();
    });
    result.closeAtUpgrade = { client: (await gone)[0], server: await reasonOf(id) };
  }

  // The server disconnects the namespace: stock clients do not come back by themselves.
  socket = await fresh({ reconnection: true, reconnectionDelay: 20, randomizationFactor: 0 });
  ({ id } = socket);
  gone = next(socket, "disconnect");
  socket.emit("disconnect_me");
  result.serverDisconnect = { client: (await gone)[0], server: await reasonOf(id), connected: socket.connected };
  back = next(socket, "connect");
  socket.connect();
  await back;
  result.broughtBack = await ask(socket, "echo", "by hand");

  // The client leaves one namespace, then the last one.
  ({ id } = socket);
  const news = socket.io.socket("/news");
  await connected(news);
  const newsId = news.id;
  news.disconnect();
  result.newsLeft = { server: await reasonOf(newsId), echo: await ask(socket, "echo", "stays") };
  gone = next(socket, "disconnect");
  socket.disconnect();
  result.clientDisconnect = { client: (await gone)[0], server: await reasonOf(id) };
  watcher.disconnect();
  return result;
});
