// Clients of every kind at once, each asking for numbers until it has sent all of them, or until standard input says
// "stop": then each waits for what is outstanding. What each has seen is told by client.
import { createInterface } from "node:readline";
import { chooseClient, FACTOR, run, transportOf, until } from "./clients.mjs";

const PERIOD_MS = 15;
const AT_A_TIME = 4;

function start(client, messages, reconnects) {
  const socket = client.open("/", {
    reconnection: reconnects,
    reconnectionDelay: 100,
    reconnectionDelayMax: 500,
    timeout: 15_000 * FACTOR,
  });
  const one = { socket, client, owners: [], problems: [], sent: 0, acked: 0, lost: 0, isInOrder: true, isStopped: false };
  socket.on("connect", () => {
    one.owners.push(socket.io.engine.id.slice(0, 7));
    const connection = { next: 0, awaited: 0 };
    one.connection = connection;
    const send = () => {
      if (one.connection !== connection || !socket.connected) return;
      for (let n = 0; n < AT_A_TIME; n++) {
        if (one.isStopped || one.sent >= messages || connection.next - connection.awaited >= 20) break;
        one.sent += 1;
        const number = connection.next++;
        socket.emit("number", number, (answer) => {
          if (answer !== number || connection.awaited !== number || one.connection !== connection) one.isInOrder = false;
          connection.awaited = number + 1;
          one.acked += 1;
        });
      }
      setTimeout(send, PERIOD_MS);
    };
    send();
  });
  socket.on("disconnect", (reason) => {
    if (!one.connection) return; // 3.1 also says so where it had not been connected
    one.problems.push(`disconnect: ${reason}`);
    one.lost += one.connection.next - one.connection.awaited;
    one.connection = undefined;
  });
  socket.on("connect_error", (error) => one.problems.push(`connect: ${error.message} ${error.context?.responseText ?? ""}`));
  return one;
}

run(async ({ url, clients, count, messages = Infinity, reconnects = false }) => {
  const all = [];
  for (let n = 0; n < count; n++) {
    const name = clients[n % clients.length];
    all.push(start(await chooseClient(url, name), messages, reconnects));
    all.at(-1).name = name;
  }
  const seconds = 60;
  const failed = () => !reconnects && all.find((one) => one.problems.length);
  const slowest = (key) => Math.min(...all.map((one) => one[key]));
  const isSettled = (one) => one.socket.connected && transportOf(one.socket) === one.client.last && one.acked > 0;
  await until(() => failed() || all.every(isSettled), () => `all settled; ${all.filter(isSettled).length} are`, seconds);
  if (messages === Infinity) {
    process.stderr.write("RUNNING\n");
    for await (const line of createInterface({ input: process.stdin })) if (line === "stop") break;
    await until(() => all.every(isSettled), () => "all connected again", seconds);
    for (const one of all) one.isStopped = true;
  }
  const isDone = (one) => one.acked + one.lost >= one.sent && (one.isStopped || one.sent >= messages);
  await until(() => failed() || all.every(isDone), () => `all answers; ${slowest("acked")} at the slowest`, seconds);
  return all.map(({ name, owners, problems, sent, acked, lost, isInOrder, socket }) => {
    const result = { name, owners, problems: [...problems], sent, acked, lost, isInOrder };
    socket.disconnect();
    return result;
  });
});
