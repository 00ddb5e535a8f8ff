// Many clients that upgrade while numbered messages flow both ways.
import { ask, chooseClient, delayUpgrades, run, transportOf, until } from "./clients.mjs";

run(async ({ url, client: name, clients: count, messages }) => {
  const client = await chooseClient(url, name);
  await delayUpgrades(name, 500);
  const all = Array.from({ length: count }, () => {
    const socket = client.open("/", { auth: { ticks: messages } });
    const one = { socket, ticks: [], acks: [], upgrades: [], sentOn: {}, heardOn: {}, problems: [] };
    socket.on("tick", ({ n }) => {
      one.ticks.push(n);
      one.heardOn[transportOf(socket)] = (one.heardOn[transportOf(socket)] ?? 0) + 1;
    });
    socket.io.engine.on("upgrade", (transport) => one.upgrades.push(transport.name));
    socket.io.engine.on("upgradeError", (error) => one.problems.push(`upgrade: ${error.message}`));
    socket.on("disconnect", (reason) => one.problems.push(`disconnect: ${reason}`));
    socket.on("connect_error", (error) => one.problems.push(`connect: ${error.message}`));
    socket.on("connect", () => sendNext(one, 0));
    return one;
  });

  // A few at a time, from the moment of connecting on, but no faster than they are answered: a busy machine would only
  // heap them up. The last fifth waits for the upgrade.
  function sendNext(one, from) {
    const { socket, acks } = one;
    const isEarly = from >= (messages * 4) / 5 && transportOf(socket) !== client.last;
    const isHeldBack = isEarly || from - acks.length > 50;
    if (!isHeldBack) {
      const to = Math.min(from + 10, messages);
      for (let n = from; n < to; n++) {
        one.sentOn[transportOf(socket)] = (one.sentOn[transportOf(socket)] ?? 0) + 1;
        socket.emit("number", n, (ack) => one.acks.push(ack));
      }
      from = to;
    }
    if (from < messages && socket.connected) setTimeout(() => sendNext(one, from), 15);
  }

  const slowest = (key) => Math.min(...all.map((one) => one[key].length));
  await until(
    () => all.some((one) => one.problems.length) || (slowest("ticks") >= messages && slowest("acks") >= messages),
    () => `all messages; ${slowest("ticks")} ticks, ${slowest("acks")} acks at the slowest`,
    60,
  );
  const results = [];
  for (const one of all) {
    const { socket, ticks, acks, upgrades, sentOn, heardOn, problems } = one;
    if (problems.length) {
      results.push({ ticks: ticks.length, acks: acks.length, upgrades, problems: [...problems] });
      continue;
    }
    const [report] = await ask(socket, "report");
    const [who] = await ask(socket, "who");
    const inOrder = (numbers) => numbers.length === messages && numbers.every((n, i) => n === i);
    results.push({
      ticks: inOrder(ticks) || ticks,
      acks: inOrder(acks) || acks,
      received: inOrder(report.received) || report.received,
      ticksByTransport: report.ticksByTransport,
      who,
      transport: transportOf(socket),
      upgrades,
      sentOn,
      heardOn,
      problems: [...problems],
    });
  }
  for (const { socket } of all) socket.disconnect();
  return results;
});
